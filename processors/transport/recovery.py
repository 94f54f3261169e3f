"""Faust's table recovery, except that saga tables are restored and followed by TableRecovery.

Everything else is left to Faust: it decides when to restore, restores other tables, seeks the streams and starts them.
The changelog stays in its subscription, so that partitions of the table follow those of its topic.

Standbys are not left to Faust: whenever it resumes the flow it empties the queue in which their records wait, and goes on
behind them. The offsets don't tell, as compaction leaves holes too; so nothing comes into the table but what was read
from its known offset on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import faust
from faust.tables import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP, CollectionT
from faust.types.transports import ConsumerT
from mode import Service

from processors.errors import ConfigurationError
from processors.kafka.publish import Sender
from processors.saga_table.changelog_reader import ReadInterrupted
from processors.saga_table.store import PartitionNotHeld
from processors.saga_table.table import OnRestored, OnRevoked, SagaTable, open_store
from processors.transport.saga_table import LOOK_EVERY, FaustSagaTable


class BulkRecovery(Recovery):
    """Faust's recovery, which leaves saga tables to their own."""

    # A takeover must read everything since the last poll; a poll costs ~5 ms of CPU for a dozen partitions.
    follow_every = timedelta(seconds=5)

    _rebalancing = False

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Restore the saga tables, then let Faust start the streams; a rebalance meanwhile starts this again."""
        for table, tps in list(self.actives_for_table.items()):
            if isinstance(table, FaustSagaTable):
                try:
                    await table.recovery.restore({tp.partition for tp in tps}, lambda: self._rebalancing)
                except (ReadInterrupted, PartitionNotHeld) as error:
                    raise RebalanceAgain from error
        await super().on_recovery_completed(generation_id)

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Interrupt the reading: the next assignment begins it again."""
        self._rebalancing = True
        for table in self._saga_tables():
            table.recovery.stop()
        super().on_partitions_revoked(revoked)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Start restoring, now that the tables have let go of what was revoked."""
        # As Faust does, which then expects the next rebalance.
        self._rebalancing = generation_id != self.app.consumer_generation_id
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def interrupt(self) -> None:
        """Return once nothing reads into a saga table any more."""
        for table in self._saga_tables():
            await table.recovery.interrupt()

    def _saga_tables(self) -> list[FaustSagaTable]:
        return [table for table in self.tables.values() if isinstance(table, FaustSagaTable)]

    # Standbys.

    def add_standby(self, table: CollectionT, tp: TP) -> None:
        """Keep a saga table's from Faust, which would read it."""
        if isinstance(table, FaustSagaTable):
            self.standbys_for_table[table].add(tp)
        else:
            super().add_standby(table, tp)

    @Service.task
    async def _follow(self) -> None:
        """Keep standbys warm; an error here stops the process."""
        async for _ in self.itertimer(self.follow_every.total_seconds(), name="Recovery.follow"):
            await self.follow_standbys()

    async def follow_standbys(self) -> None:
        """Read what was written to the standbys of saga tables; ConfigurationError as TableRecovery.follow()."""
        for table, tps in list(self.standbys_for_table.items()):
            if isinstance(table, FaustSagaTable) and self._may_follow(table, tps):
                await self._follow_table(table, tps)

    async def _follow_table(self, table: FaustSagaTable, tps: set[TP]) -> None:
        await table.recovery.follow({tp.partition for tp in tps}, lambda: self._may_follow(table, tps))

    def _may_follow(self, table: FaustSagaTable, tps: set[TP]) -> bool:
        # Each rebalance makes another set of the same or other partitions. Restoring those that are owned comes first.
        return not self._rebalancing and self.tables.actives_ready and self.standbys_for_table.get(table) is tps

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
        return {tp for tp in tps if not isinstance(self.tp_to_table[tp], FaustSagaTable)}


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
        return frozenset(topic for topic, table in self._changelogs.items() if isinstance(table, FaustSagaTable))

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Stop the reading before tables give partitions away."""
        await self.recovery.interrupt()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)


def add_saga_table(
    app: faust.App,
    *,
    producer: Sender,
    client: Mapping[str, str | int | bool],
    topic: str = "scrape.sagas",
    on_restored: OnRestored | None = None,
    on_revoked: OnRevoked | None = None,
    look_every: timedelta = LOOK_EVERY,
    patience: timedelta = timedelta(seconds=30),
) -> SagaTable:
    """Add the saga table to an app that has no tables yet; where it is kept is the app's `store`.

    `client` holds librdkafka's `bootstrap.servers` and security settings; the rest is SagaTable's. Raises
    ConfigurationError.
    """
    app.conf.TableManager = BulkTables  # type: ignore[assignment]  # Faust's own settings have no real types
    if not isinstance(app.tables, BulkTables):
        raise ConfigurationError("The saga table has to be added before anything else asks the app for its tables.")

    def owned() -> set[int]:
        return {tp.partition for tp in app.assignor.assigned_actives() if tp.topic == topic}

    sagas = SagaTable(
        topic,
        open_store(str(app.conf.store), Path(app.conf.tabledir)),
        producer,
        owned=owned,
        client=client,
        on_restored=on_restored,
        on_revoked=on_revoked,
        patience=patience,
    )
    app.tables.add(FaustSagaTable(app, sagas, look_every))
    return sagas
