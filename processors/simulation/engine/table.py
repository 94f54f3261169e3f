"""The coordinator's table on the simulated Kafka: the production partition, account and healing over a simulated log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import cast

from processors.kafka.producer import Producer
from processors.saga_table.changelog import ChangelogEntry, seq_in
from processors.saga_table.changelog_reader import ChangelogReader, LogRecord
from processors.saga_table.fencing import FencingWatch
from processors.saga_table.partition import SagaPartition
from processors.saga_table.store import MemoryStates, PartitionNotHeld
from processors.saga_table.table import OnRestored, OnRevoked
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


class SimulatedTable:
    """The saga table of one process."""

    def __init__(self, topic: str, broker: Broker, wire: Wire, on_restored: OnRestored, on_revoked: OnRevoked) -> None:
        self._topic = topic
        self._broker = broker
        self._wire = wire
        self._on_restored = on_restored
        self._on_revoked = on_revoked
        self._store = MemoryStates()
        self._watch = _Watch(topic, broker, broker.loop)
        self._partitions: dict[int, SagaPartition] = {}

    def get(self, key: bytes, partition: int) -> bytes | None:
        """The state of a saga, None if there is none; PartitionNotHeld."""
        return self._store.look_up(partition, key)

    async def save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Publish states, and apply them once acknowledged; errors as SagaTable.save()."""
        held = self._partitions.get(partition)
        if held is None:
            raise PartitionNotHeld(partition)
        await held.save(items)

    async def rebalanced(self, partitions: Collection[int]) -> None:
        """Hold exactly these partitions, each restored from the log and announced, as the Faust table does."""
        for number, held in list(self._partitions.items()):
            if number not in partitions:
                if held.active:
                    self._on_revoked(number)
                self._partitions.pop(number).drop()
            held.active = False
        for number in sorted(partitions):
            await self._restore(number)

    async def _restore(self, number: int) -> None:
        held = self._partitions.get(number)
        if held is None:
            # Every promise of a producer that the partition relies on is kept by a wire.
            producer = cast(Producer, self._wire)
            held = self._partitions[number] = SagaPartition(number, self._topic, self._store, producer, self._watch)
        async with held.lock:
            await asyncio.sleep(self._broker.latency())
            known = held.known_offset
            log = self._broker.logs[self._topic, number][0 if known is None else known + 1 :]
            changes: list[ChangelogEntry] = [
                (one.key or b"", one.value, -1 if one.value is not None else seq_in(one.headers)) for one in log
            ]
            held.absorb(changes, self._broker.end(self._topic, number) - 1)
            await held.repair()
            held.active = True
        if held.changed:
            self._on_restored(number, self._store.scan(number))
        held.changed = False

    async def fence_other_writers(self) -> None:
        """Examine every partition up to its end; OwnershipLost, DeliveryFailed."""
        for held in list(self._partitions.values()):
            try:
                await held.fence_other_writers()
            except PartitionNotHeld:
                continue
