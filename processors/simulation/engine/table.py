"""The coordinator's table on the simulated Kafka: the production table over a simulated log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast

from processors.saga_table.changelog import ChangelogEntry, seq_in
from processors.saga_table.changelog_reader import ChangelogReader, LogRecord
from processors.saga_table.fencing import FencingWatch
from processors.saga_table.store import MemoryStates
from processors.saga_table.table import OnRestored, OnRevoked, SagaTable
from processors.simulation.engine.event_loop import VirtualLoop
from processors.simulation.engine.kafka import Broker, Wire


class _Reader:
    """Reads the simulated log by offset."""

    def __init__(self, topic: str, broker: Broker) -> None:
        self._topic = topic
        self._broker = broker

    def bounds(self, partition: int) -> tuple[int, int]:
        return 0, self._broker.end(self._topic, partition)

    def read_range(self, partition: int, first: int, last: int) -> list[LogRecord]:
        return [
            LogRecord(one.offset, one.key or b"", one.value, -1 if one.value is not None else seq_in(one.headers))
            for one in self._broker.logs[self._topic, partition][first : last + 1]
        ]


class _Watch(FencingWatch):
    def __init__(self, topic: str, broker: Broker, loop: VirtualLoop) -> None:
        super().__init__(topic, {}, clock=loop.time)
        self._simulated = _Reader(topic, broker)

    def _connected(self) -> ChangelogReader:
        return cast(ChangelogReader, self._simulated)


class SimulatedTable(SagaTable):
    """The saga table of one process, which is given partitions by rebalanced()."""

    def __init__(self, topic: str, broker: Broker, wire: Wire, on_restored: OnRestored, on_revoked: OnRevoked) -> None:
        self._broker = broker
        self._assigned: frozenset[int] = frozenset()
        super().__init__(
            topic,
            MemoryStates(),
            wire,
            owned=lambda: self._assigned,
            watch=_Watch(topic, broker, broker.loop),
            on_restored=on_restored,
            on_revoked=on_revoked,
        )

    async def rebalanced(self, partitions: Collection[int]) -> None:
        """Hold exactly these partitions, each restored from the log and announced."""
        self._assigned = frozenset(partitions)
        self.release(self._assigned)
        for number in sorted(partitions):
            async with await self.restoring([number]):
                await asyncio.sleep(self._broker.latency())
                self._read(number)
                await self.announce(number)

    def _read(self, number: int) -> None:
        known = self.known_offset(number)
        log = self._broker.logs[self.topic, number][0 if known is None else known + 1 :]
        changes: list[ChangelogEntry] = [
            (one.key or b"", one.value, -1 if one.value is not None else seq_in(one.headers)) for one in log
        ]
        self.absorb(number, changes, self._broker.end(self.topic, number) - 1)
