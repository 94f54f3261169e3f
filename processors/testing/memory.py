"""A host in memory that keeps every promise of processors.step.Host: for the tests of steps.

host = MemoryHost(secrets={"API_TOKEN": "s3cret"}, settings={"ALLOW_ADDRESSES": "127.0.0.0/8"})
step = Fetch("fetch", Fetch.Params(), host)
...
host.records("pages")      # everything that was published, tombstones too
host.compacted("pages")    # key -> last value, without tombstones
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from processors.errors import ConfigurationError, RecordGone, StepFailed
from processors.step import Address


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """One record as a consumer would see it."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(slots=True)
class MemoryTopic:
    """A topic that can be compacted: offsets stay, superseded records go."""

    records: list[MemoryRecord] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, partition: int, key: bytes, value: bytes | None, headers: Mapping[str, bytes]) -> MemoryRecord:
        """Append a record at the partition's next offset."""
        offset = self.ends.get(partition, 0)
        self.ends[partition] = offset + 1
        record = MemoryRecord(partition, offset, key, value, dict(headers))
        self.records.append(record)
        self.arrived.set()
        self.arrived = asyncio.Event()
        return record

    def compact(self) -> None:
        """Keep the last record of each key, at its old offset, as Kafka's log cleaner would in the end."""
        last = {(record.partition, record.key): record for record in self.records}
        self.records = [r for r in self.records if last[(r.partition, r.key)] is r]


class MemoryLog:
    """A cursor of its own over a single-partition topic."""

    def __init__(self, topic: MemoryTopic) -> None:
        self._topic = topic
        self._next = 0

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Append an entry; another task may run in between, as with a real broker."""
        await asyncio.sleep(0)
        offset = self._topic.append(0, key, value, {}).offset
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
        topics: dict[str, MemoryTopic] | None = None,
        max_value_bytes: int = 10_000_000,
        prefix: str = "scrape.",
    ) -> None:
        self.secrets = dict(secrets or {})
        self.settings = dict(settings or {})
        self.topics: dict[str, MemoryTopic] = {} if topics is None else topics
        self.max_value_bytes = max_value_bytes
        self.prefix = prefix
        self.counted: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()

    def sibling(self) -> MemoryHost:
        """Return the host of another worker process: the same topics and settings, cursors of its own."""
        return MemoryHost(
            secrets=self.secrets,
            settings=self.settings,
            topics=self.topics,
            max_value_bytes=self.max_value_bytes,
            prefix=self.prefix,
        )

    def records(self, topic: str) -> list[MemoryRecord]:
        """Return all that lies in a topic, in the order it came, tombstones too."""
        return list(self._topic(topic).records)

    def compacted(self, topic: str) -> dict[bytes, bytes]:
        """Return the compacted view of a topic: the last value of each key that isn't a tombstone."""
        last = {record.key: record.value for record in self._topic(topic).records}
        return {key: value for key, value in last.items() if value is not None}

    def compact(self, topic: str) -> None:
        """Compact a topic now."""
        self._topic(topic).compact()

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
        """Append a record; a value over the limit fails for good, as with the real host."""
        if value is not None and len(value) > self.max_value_bytes:
            raise StepFailed(
                f"a record of {len(value)} bytes is over the {self.max_value_bytes} bytes of {self.prefix}{topic}"
            )
        record = self._topic(topic).append(partition or 0, key, value, headers or {})
        return Address(
            topic=self.prefix + topic,
            partition=record.partition,
            offset=record.offset,
            sha256=hashlib.sha256(value or b"").hexdigest(),
            size_bytes=len(value or b""),
        )

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value at an address, checked by key, offset and sha256."""
        for record in self._topic(address.topic.removeprefix(self.prefix)).records:
            if (record.partition, record.offset) != (address.partition, address.offset):
                continue
            value = record.value
            if record.key == key and value is not None and hashlib.sha256(value).hexdigest() == address.sha256:
                return value
        raise RecordGone(f"{address.topic}[{address.partition}]@{address.offset} is gone or another record")

    def log(self, topic: str) -> MemoryLog:
        """Open a single-partition topic as a log, with a cursor of its own, from its beginning."""
        return MemoryLog(self._topic(topic))

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

    def _topic(self, name: str) -> MemoryTopic:
        return self.topics.setdefault(name, MemoryTopic())
