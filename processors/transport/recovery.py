"""Restores the saga table in bulk, where Faust's own recovery takes every record through a stream: 60 times as long.

Everything else is left to Faust: it decides when to restore, restores other tables, follows standbys, seeks the streams
and starts them. The changelog stays in its subscription, so that partitions of the table follow those of its topic.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any

import faust
from faust.tables import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP
from faust.types.transports import ConsumerT

from processors import metrics
from processors.errors import ConfigurationError
from processors.transport.changelog_reader import ChangelogReader, ReadInterrupted
from processors.transport.outbox import Outbox
from processors.transport.table import OnRestored, OnRevoked, PartitionNotHeld, SagaTable


def add_saga_table(
    app: faust.App,
    *,
    outbox: Outbox,
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
        outbox=outbox,
        client=client,
        bulk=bulk,
        on_restored=on_restored,
        on_revoked=on_revoked,
        **settings,
    )
    app.tables.add(table)
    return table


def read_in_bulk(table: SagaTable, partitions: Collection[int], stop: threading.Event) -> None:
    """Bring partitions of the table up to the end of its changelog; blocks, and is meant for a thread.

    Raises ReadInterrupted once `stop` is set, ReadFailed, and ConfigurationError if the table is ahead of its
    changelog.
    """
    with ChangelogReader(table.changelog_topic_name, table.client) as reader:
        starts = {partition: _start(table, reader, partition) for partition in partitions}
        reader.read_to_end(starts, table.absorb, stop)


def _start(table: SagaTable, reader: ChangelogReader, partition: int) -> int:
    first, end = reader.bounds(partition)
    known = table.known_offset(partition)
    if known is None:
        return first
    if known >= end:
        raise ConfigurationError(
            f"The table holds {table.changelog_topic_name} [{partition}] up to offset {known}, but the topic ends at "
            f"{end}: it was made anew, or its end was lost. Delete the folder {table.app.conf.tabledir} and restart."
        )
    return max(first, known + 1)


class BulkRecovery(Recovery):
    """Faust's recovery, except that saga tables are read by a connection of their own."""

    _stop_reading = threading.Event()
    _reading: asyncio.Future[None] | None = None
    _rebalancing = False

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Restore the saga tables, then have Faust start the streams; a rebalance meanwhile starts all over."""
        for table, tps in list(self.actives_for_table.items()):
            if isinstance(table, SagaTable):
                await self._restore(table, {tp.partition for tp in tps})
        await super().on_recovery_completed(generation_id)

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Interrupt the reading: the next assignment begins it again."""
        self._rebalancing = True
        self._stop_reading.set()
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
        self._stop_reading.set()
        if self._reading is not None:
            await asyncio.wait([self._reading])

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
        took = monotonic() - began
        metrics.recovery_seconds.set(took)
        self.log.info("Saga table restored: %d partitions, %d sagas, %.1f s", len(partitions), len(table), took)

    async def _read(self, table: SagaTable, partitions: set[int]) -> threading.Event:
        """Read to the end; the result is set once that isn't worth anything any more."""
        await self.interrupt()
        if self._rebalancing:
            # This recovery was on its way when the rebalance began, and its partitions may be gone.
            raise RebalanceAgain
        stop = self._stop_reading = threading.Event()
        self._reading = asyncio.ensure_future(asyncio.to_thread(read_in_bulk, table, partitions, stop))
        try:
            await asyncio.shield(self._reading)
        except asyncio.CancelledError:
            # A thread that goes on would write into a table that was given away.
            await self.interrupt()
            raise
        return stop

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

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Stop the reading before tables give partitions away."""
        await self.recovery.interrupt()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
