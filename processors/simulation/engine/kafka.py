"""Kafka as the engine sees it: partitions with one order each, the broker's clock, and a way there that takes its time."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from processors.errors import DeliveryFailed
from processors.kafka.claim_check import redeemed
from processors.kafka.producer import Outgoing
from processors.kafka.publish import publish
from processors.kafka.record import Headers
from processors.simulation.engine.event_loop import SimulatedProcess, VirtualLoop
from processors.simulation.engine.faults import EngineFault
from processors.step import Address
from topics.catalogue import Catalogue

START_S = 1_700_000_000.0
#: One way between a process and Kafka takes up to this long.
LATENCY_S = 0.03
#: How long a process waits for an acknowledgement before it gives up on Kafka.
DELIVERED_WITHIN_S = 3.0

TopicPartition = tuple[str, int]


class Stored(NamedTuple):
    """A record on the broker; `order` counts over all partitions."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    order: int


class Broker:
    """All partitions of all topics."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self.loop = loop
        self.chance = chance
        self.logs: dict[TopicPartition, list[Stored]] = defaultdict(list)
        #: How far the broker's clock is off.
        self.clock_error_s = 0.0
        self.on_append: Callable[[Stored], None] = lambda stored: None
        self._order = 0
        self._news: dict[TopicPartition, asyncio.Future[None]] = {}

    @property
    def now_ms(self) -> int:
        """The broker's clock."""
        return int((START_S + self.loop.elapsed + self.clock_error_s) * 1000)

    def latency(self) -> float:
        """Seconds of one way; seldom ten times as long."""
        chance = self.chance.random()
        return LATENCY_S * (chance if chance < 0.95 else 10 * self.chance.random())

    def append(self, record: Outgoing) -> int:
        """Append a record now; return its offset."""
        place = record.topic, record.partition
        log = self.logs[place]
        self._order += 1
        stored = Stored(
            record.topic, record.partition, len(log), self.now_ms, record.key, record.value, record.headers, self._order
        )
        log.append(stored)
        self.on_append(stored)
        news = self._news.pop(place, None)
        if news is not None:
            news.set_result(None)
        return stored.offset

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last record."""
        return len(self.logs[topic, partition])

    async def news(self, topic: str, partition: int) -> None:
        """Wait for the next record of a partition."""
        place = topic, partition
        if place not in self._news:
            self._news[place] = self.loop.create_future()
        await asyncio.shield(self._news[place])


class Wire:
    """A process's producer: in order within each partition, acknowledged once all is written.

    What is on its way arrives, whatever becomes of the process. A process that gets no acknowledgement is broken, as the
    real one is: it has to stop.
    """

    def __init__(self, broker: Broker, process: SimulatedProcess, fault: Callable[[int], EngineFault | None]) -> None:
        self._broker = broker
        self._process = process
        self._fault = fault
        self._sends = 0
        self._last: dict[TopicPartition, float] = {}
        self._broken = False
        #: Cut off from Kafka until then.
        self.cut_until = 0.0

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Send records; return their offsets. Raises DeliveryFailed."""
        if self._broken:
            raise DeliveryFailed("the producer is broken")
        loop = self._broker.loop
        self._sends += 1
        fault = self._fault(self._sends)
        late = self.cut_until - loop.elapsed > DELIVERED_WITHIN_S
        written = len(items)
        if fault is EngineFault.NOT_WRITTEN or late:
            written = 0
        elif fault is EngineFault.HALF_WRITTEN:
            written = len(items) // 2
        offsets = [-1] * len(items)
        queues: dict[TopicPartition, list[int]] = defaultdict(list)
        for place, item in enumerate(items[:written]):
            queues[item.topic, item.partition].append(place)
        arrived = loop.elapsed
        for queue, places in queues.items():
            at = max(loop.elapsed, self.cut_until) + self._broker.latency()
            # One batch in flight a partition: what was sent first arrives first.
            at = self._last[queue] = max(at, self._last.get(queue, 0.0) + 1e-6)
            arrived = max(arrived, at)
            loop.call_at(at, self._land, items, places, offsets)
        if fault is not None or late:
            self._broken = True
            await asyncio.sleep(DELIVERED_WITHIN_S)
            raise DeliveryFailed(f"Kafka did not acknowledge {len(items)} records")
        await asyncio.sleep(arrived - loop.elapsed + self._broker.latency())
        return offsets

    def _land(self, items: Sequence[Outgoing], places: Sequence[int], offsets: list[int]) -> None:
        for place in places:
            offsets[place] = self._broker.append(items[place])


class SimulatedLog:
    """A single-partition topic, read from its beginning."""

    def __init__(self, topic: str, broker: Broker, wire: Wire) -> None:
        self._topic = topic
        self._broker = broker
        self._wire = wire
        self._next = 0

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Append an entry; return its offset once it is acknowledged."""
        return (await self._wire.send([Outgoing(self._topic, 0, key, value)]))[0]

    async def catch_up(self, to_offset: int | None = None) -> list[tuple[int, bytes, bytes | None]]:
        """Return what was not returned yet, through `to_offset` or the present end."""
        await asyncio.sleep(self._broker.latency())
        end = self._broker.end(self._topic, 0) if to_offset is None else to_offset + 1
        while self._broker.end(self._topic, 0) < end:
            await self._broker.news(self._topic, 0)
        found = self._broker.logs[self._topic, 0][self._next : end]
        self._next = max(self._next, end)
        return [(one.offset, one.key or b"", one.value) for one in found]


class SimulatedHost:
    """What the engine offers to steps, on the simulated Kafka: every promise of processors.step.Host."""

    def __init__(self, catalogue: Catalogue, broker: Broker, wire: Wire) -> None:
        self._catalogue = catalogue
        self._broker = broker
        self._wire = wire

    async def publish(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> Address:
        """Append a record to one of the engine's topics by its short name. Raises StepFailed, DeliveryFailed."""
        about = tuple((headers or {}).items())
        return await publish(self._wire, self._catalogue.topic(topic), partition, key, value, about)

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value at an address, checked. Raises RecordGone."""
        await asyncio.sleep(self._broker.latency())
        log = self._broker.logs[address.topic, address.partition]
        found = log[address.offset] if 0 <= address.offset < len(log) else None
        if found is None:
            return redeemed(address, key, -1, None, None)
        return redeemed(address, key, found.offset, found.key, found.value)

    def log(self, topic: str) -> SimulatedLog:
        """Open a single-partition topic by its short name."""
        return SimulatedLog(self._catalogue.topic(topic).name, self._broker, self._wire)

    def secret(self, name: str) -> str:
        """Return a secret that is none."""
        return f"simulated-{name}"

    def setting(self, name: str, default: str = "") -> str:
        """Return the default: a simulation has no settings."""
        return default

    def count(self, metric: str, amount: float = 1.0, **labels: str) -> None:
        """Nobody counts here."""
        return None
