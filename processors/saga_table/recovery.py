"""Restores the saga table in bulk, where Faust's own recovery takes every record through a stream: 60 times as long.

Everything else is left to Faust: it decides when to restore, restores other tables, seeks the streams and starts them.
The changelog stays in its subscription, so that partitions of the table follow those of its topic.

Standbys are read likewise, every few seconds. Of what Faust hands over of them some is lost without a word: whenever it
resumes the flow it empties the queue in which they wait, and goes on behind them. The offsets don't tell, as compaction
leaves holes too; so nothing comes into the table but what was read from its known offset on.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

import faust
from faust.tables import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP, CollectionT
from faust.types.transports import ConsumerT
from mode import Service

from processors.errors import ConfigurationError
from processors.kafka.producer import Producer
from processors.observability import metrics
from processors.saga_table.bulk_read import BulkRead
from processors.saga_table.changelog_reader import ReadFailed, ReadInterrupted
from processors.saga_table.table import OnRestored, OnRevoked, PartitionNotHeld, SagaTable


def add_saga_table(
    app: faust.App,
    *,
    producer: Producer,
    client: Mapping[str, str | int | bool],
    topic: str = "scrape.sagas",
    bulk: bool = True,
    on_restored: OnRestored | None = None,
    on_revoked: OnRevoked | None = None,
    **settings: Any,
) -> SagaTable:
    """Add the saga table to an app that has no tables yet; with `bulk` it is restored by BulkRecovery, else by
    Faust's own.

    `client` holds librdkafka's `bootstrap.servers` and security settings, `settings` what SagaTable takes besides.
    """
    if bulk:
        app.conf.TableManager = BulkTables  # type: ignore[assignment]  # Faust's own settings have no real types
        if not isinstance(app.tables, BulkTables):
            raise ConfigurationError("The saga table has to be added before anything else asks the app for its tables.")
    changelog = app.topic(
        topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
    )
    table = SagaTable(
        app,
        name="sagas",
        changelog_topic=changelog,
        producer=producer,
        client=client,
        bulk=bulk,
        on_restored=on_restored,
        on_revoked=on_revoked,
        **settings,
    )
    app.tables.add(table)
    return table


def malloc_trim() -> None:
    """Return what was freed to the system, where the C library can: glibc. Costs well under a millisecond."""
    if sys.platform == "linux":
        # musl has none.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class BulkRecovery(Recovery):
    """Faust's recovery, except that saga tables are read by connections of their own."""

    # A takeover has as much to read as was written since the last look, which costs ~5 ms of CPU for a dozen partitions.
    follow_every = timedelta(seconds=5)

    _rebalancing = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._restored = BulkRead()
        self._followed = BulkRead()

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Restore the saga tables, then have Faust start the streams; a rebalance meanwhile starts all over."""
        for table, tps in list(self.actives_for_table.items()):
            if isinstance(table, SagaTable):
                await self._restore(table, {tp.partition for tp in tps})
        await super().on_recovery_completed(generation_id)

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Interrupt the reading: the next assignment begins it again."""
        self._rebalancing = True
        self._restored.stop()
        self._followed.stop()
        super().on_partitions_revoked(revoked)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Start restoring, now that the tables have let go of what was revoked."""
        # As Faust does, which then expects the next rebalance.
        self._rebalancing = generation_id != self.app.consumer_generation_id
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def interrupt(self) -> None:
        """Return once nothing reads into a table any more."""
        await self._restored.interrupt()
        await self._followed.interrupt()

    async def _restore(self, table: SagaTable, partitions: set[int]) -> None:
        began = monotonic()
        try:
            async with await table.restoring(partitions):
                stop = await self._read(table, partitions)
                for partition in sorted(partitions):
                    if stop.is_set():
                        raise RebalanceAgain
                    await table.announce(partition)
                    # Announcing takes as long as the walk over the states, and heartbeats have to get through.
                    await asyncio.sleep(0)
        except (ReadInterrupted, PartitionNotHeld) as error:
            raise RebalanceAgain from error
        # Up to some ten megabytes, by which the reading was ahead of the table.
        malloc_trim()
        took = monotonic() - began
        metrics.recovery_seconds.set(took)
        self.log.info("Saga table restored: %d partitions, %d sagas, %.1f s", len(partitions), len(table), took)

    async def _read(self, table: SagaTable, partitions: set[int]) -> threading.Event:
        await self._restored.interrupt()
        if self._rebalancing:
            # This recovery was on its way when the rebalance began, and its partitions may be gone.
            raise RebalanceAgain
        return await self._restored.run(table, partitions)

    # Standbys.

    def add_standby(self, table: CollectionT, tp: TP) -> None:
        """Keep a saga table's from Faust, which would read it."""
        if isinstance(table, SagaTable):
            self.standbys_for_table[table].add(tp)
        else:
            super().add_standby(table, tp)

    @Service.task
    async def _follow(self) -> None:
        """Keep standbys warm; an error here stops the process."""
        async for _ in self.itertimer(self.follow_every.total_seconds(), name="Recovery.follow"):
            await self.follow_standbys()

    async def follow_standbys(self) -> None:
        """Read what was written to the standbys of saga tables; ConfigurationError as BulkRead.run()."""
        for table, tps in list(self.standbys_for_table.items()):
            if isinstance(table, SagaTable) and self._may_follow(table, tps):
                await self._read_standbys(table, tps)

    def _may_follow(self, table: SagaTable, tps: set[TP]) -> bool:
        # Each rebalance makes another set of the same or other partitions. Restoring those that are owned comes first.
        return not self._rebalancing and self.tables.actives_ready and self.standbys_for_table.get(table) is tps

    async def _read_standbys(self, table: SagaTable, tps: set[TP]) -> None:
        partitions = {tp.partition for tp in tps}
        try:
            async with await table.restoring(partitions):
                # A save of the time when they were owned may have kept them locked until the next rebalance.
                if self._may_follow(table, tps):
                    stop = await self._followed.run(table, partitions)
                    if not stop.is_set():
                        table.trim(partitions)
        except ReadInterrupted:
            # By a rebalance. What was read so far counts.
            return
        except ReadFailed as error:
            # Kafka is away. Nothing is lost by reading later: a takeover reads what is missing.
            self.log.warning("Cannot follow standbys: %s", error)

    # Faust reads nothing for partitions whose end it doesn't know.

    async def _build_highwaters(self, consumer: ConsumerT, tps: set[TP], destination: Counter[TP], title: str) -> None:
        await super()._build_highwaters(consumer, self._left_to_faust(tps, title), destination, title)

    async def _build_offsets(self, consumer: ConsumerT, tps: set[TP], destination: Counter[TP], title: str) -> None:
        await super()._build_offsets(consumer, self._left_to_faust(tps, title), destination, title)

    async def _seek_offsets(self, consumer: ConsumerT, tps: set[TP], offsets: Counter[TP], title: str) -> None:
        await super()._seek_offsets(consumer, self._left_to_faust(tps, title), offsets, title)

    def _left_to_faust(self, tps: set[TP], title: str) -> set[TP]:
        if title != "active":
            return tps
        return {tp for tp in tps if not isinstance(self.tp_to_table[tp], SagaTable)}


class BulkTables(TableManager):
    """Faust's registry of tables with BulkRecovery."""

    _recovery: BulkRecovery | None = None

    @property
    def recovery(self) -> BulkRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = BulkRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    @property
    def bulk_topics(self) -> frozenset[str]:
        """Changelogs that are read by connections of their own."""
        return frozenset(topic for topic, table in self._changelogs.items() if isinstance(table, SagaTable))

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Stop the reading before tables give partitions away."""
        await self.recovery.interrupt()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
