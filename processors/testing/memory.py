"""A host in memory that keeps every promise of processors.step.Host: for the tests of steps.

    host = MemoryHost(secrets={"API_TOKEN": "s3cret"}, settings={"CLICKHOUSE_DATABASE": "shop"})
    step = Fetch("fetch", Fetch.Params(), host)
    ...
    host.records("pages")      # everything that was published, tombstones too
    host.compacted("pages")    # key -> last value, without tombstones

Topics, their partitions and their limits are those of the catalogue, as in a worker.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from processors.errors import ConfigurationError
from processors.kafka.claim_check import redeemed
from processors.kafka.producer import Outgoing
from processors.kafka.publish import publish
from processors.kafka.record import header_values
from processors.step import Address
from topics.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """One record as a consumer would see it; `topic` is its short name, for example "pages"."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(slots=True)
class MemoryTopic:
    """A topic that can be compacted: offsets stay, superseded records go."""

    name: str
    records: list[MemoryRecord] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, partition: int, key: bytes, value: bytes | None, headers: Mapping[str, bytes]) -> MemoryRecord:
        """Append a record at the partition's next offset."""
        offset = self.ends.get(partition, 0)
        self.ends[partition] = offset + 1
        record = MemoryRecord(self.name, partition, offset, key, value, dict(headers))
        self.records.append(record)
        self.arrived.set()
        self.arrived = asyncio.Event()
        return record

    def compact(self) -> None:
        """Keep the last record of each key, at its old offset, as Kafka's log cleaner would in the end."""
        last = {(record.partition, record.key): record for record in self.records}
        self.records = [r for r in self.records if last[(r.partition, r.key)] is r]


class MemoryBroker:
    """All topics of the catalogue, and everything that was ever published to them, in its order."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.history: list[MemoryRecord] = []
        self._topics = {topic.name: MemoryTopic(topic.short_name) for topic in catalogue}

    def topic(self, short_name: str) -> MemoryTopic:
        """Return a topic. Raises UnknownTopic for one that the catalogue doesn't have."""
        return self._topics[self.catalogue.topic(short_name).name]

    def named(self, name: str) -> MemoryTopic | None:
        """Return a topic by its whole name, None if there is none."""
        return self._topics.get(name)

    def append(
        self, topic: MemoryTopic, partition: int, key: bytes, value: bytes | None, headers: Mapping[str, bytes]
    ) -> int:
        """Append a record; return its offset."""
        record = topic.append(partition, key, value, headers)
        self.history.append(record)
        return record.offset

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Append records, as a producer does; return their offsets."""
        return [
            self.append(self._topics[one.topic], one.partition, one.key or b"", one.value, header_values(one.headers))
            for one in items
        ]


class MemoryLog:
    """A cursor of its own over a single-partition topic."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = broker.topic(topic)
        self._next = 0

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Append an entry; another task may run in between, as with a real broker."""
        await asyncio.sleep(0)
        offset = self._broker.append(self._topic, 0, key, value, {})
        await asyncio.sleep(0)
        return offset

    async def catch_up(self, to_offset: int | None = None) -> list[tuple[int, bytes, bytes | None]]:
        """Return what was not returned yet, through `to_offset` (waits for it) or through the current end."""
        end = self._topic.ends.get(0, 0) if to_offset is None else to_offset + 1
        await asyncio.sleep(0)
        while self._topic.ends.get(0, 0) < end:
            await self._topic.arrived.wait()
        found = [
            (record.offset, record.key, record.value)
            for record in self._topic.records
            if self._next <= record.offset < end
        ]
        self._next = max(self._next, end)
        return found


class MemoryHost:
    """One worker's host; `sibling()` is another worker's host on the same topics."""

    def __init__(
        self,
        *,
        secrets: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        broker: MemoryBroker | None = None,
    ) -> None:
        self.secrets = dict(secrets or {})
        self.settings = dict(settings or {})
        self.broker = MemoryBroker(Catalogue()) if broker is None else broker
        self.counted: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()

    def sibling(self) -> MemoryHost:
        """Return the host of another worker process: the same topics and settings, cursors of its own."""
        return MemoryHost(secrets=self.secrets, settings=self.settings, broker=self.broker)

    def records(self, topic: str) -> list[MemoryRecord]:
        """Return all that lies in a topic, in the order it came, tombstones too."""
        return list(self.broker.topic(topic).records)

    def compacted(self, topic: str) -> dict[bytes, bytes]:
        """Return the compacted view of a topic: the last value of each key that isn't a tombstone."""
        return {record.key: record.value for record in standing(self.records(topic)) if record.value is not None}

    def compact(self, topic: str) -> None:
        """Compact a topic now."""
        self.broker.topic(topic).compact()

    def total(self, metric: str, **labels: str) -> float:
        """Return how much was counted on a metric, over all its labels or those that carry `labels`."""
        wanted = set(labels.items())
        return sum(n for (name, has), n in self.counted.items() if name == metric and wanted <= has)

    async def publish(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> Address:
        """Append a record to a topic by its short name. Raises StepFailed for one over the topic's limit."""
        about = tuple((headers or {}).items())
        return await publish(self.broker, self.broker.catalogue.topic(topic), partition, key, value, about)

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value at an address, checked. Raises RecordGone."""
        topic = self.broker.named(address.topic)
        for record in () if topic is None else topic.records:
            if (record.partition, record.offset) == (address.partition, address.offset):
                return redeemed(address, key, record.offset, record.key, record.value)
        return redeemed(address, key, -1, None, None)

    def log(self, topic: str) -> MemoryLog:
        """Open a single-partition topic as a log, with a cursor of its own, from its beginning."""
        return MemoryLog(self.broker, topic)

    def secret(self, name: str) -> str:
        """Return a secret that the test gave."""
        if name not in self.secrets:
            raise ConfigurationError(f"secret {name} is not set: pass it to MemoryHost(secrets=...)")
        return self.secrets[name]

    def setting(self, name: str, default: str = "") -> str:
        """Return a setting that the test gave, or the default."""
        return self.settings.get(name, default)

    def count(self, metric: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter; read it with `total`."""
        self.counted[(metric, frozenset(labels.items()))] += amount  # type: ignore[assignment]  # Counter of float


def standing(records: Iterable[MemoryRecord]) -> list[MemoryRecord]:
    """Return what a reader of the compacted topic sees: the last record of each key, unless that is a tombstone."""
    last = {record.key: record for record in records}
    return [record for record in last.values() if record.value is not None]
