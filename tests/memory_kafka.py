"""Topics in memory, behind the interfaces of the real reader and producer: operations run on them as they do on Kafka.

topics = MemoryTopics(records)                 # by topic, as tests/honest.py writes them
engine = topics.engine(Settings())
await queries.status(engine, "job-1")
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from processors.kafka.partitioner import partition_for
from processors.kafka.reader import Bounds, Place, Reader, ReadInterrupted, Tail
from processors.kafka.record import Record
from processors.kafka.sync_producer import SyncProducer
from processors.operations.engine import Engine, Session
from processors.settings.settings import Settings


class MemoryTopics:
    """What a broker holds; `on_append` is called with each record that is appended, as a coordinator would be."""

    def __init__(self, partitions: Mapping[str, int], records: Iterable[Record] = ()) -> None:
        self.partitions = dict(partitions)
        self.logs: dict[Place, list[Record]] = defaultdict(list)
        self.on_append: Callable[[Record], object] = lambda record: None
        self.read: list[Record] = []
        """Every record that a reader was given."""
        for record in records:
            self.logs[record.topic, record.partition].append(record)

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int = -1,
    ) -> Record:
        """Append a record now."""
        count = self.partitions[topic]
        number = partition if partition >= 0 else partition_for(key or b"", count)
        log = self.logs[topic, number]
        offset = log[-1].offset + 1 if log else 0
        record = Record(topic, number, offset, int(time.time() * 1000), key, value, tuple(headers))
        log.append(record)
        self.on_append(record)
        return record

    def session(self, settings: Settings) -> Session:
        """Return what a blocking operation works with."""
        return Session(settings, MemoryReader(self), lambda: MemoryProducer(self))

    def engine(self, settings: Settings) -> Engine:
        """Return an engine whose Kafka is this."""
        return Engine(settings, reader=lambda client: MemoryReader(self), producer=lambda client: MemoryProducer(self))


class MemoryReader(Reader):
    """A Reader whose records come from memory; what asks the broker is replaced, all else is the real one."""

    def __init__(self, topics: MemoryTopics) -> None:
        super().__init__({"bootstrap.servers": "memory"})
        self._topics = topics

    def topics(self) -> Mapping[str, int]:
        return self._topics.partitions

    def bounds(self, places: Iterable[Place]) -> dict[Place, Bounds]:
        found = {}
        for place in places:
            log = self._topics.logs[place]
            found[place] = Bounds(log[0].offset, log[-1].offset + 1) if log else Bounds(0, 0)
        return found

    def starts(self, places: Iterable[Place], since_ms: int) -> dict[Place, int]:
        found = {}
        for place, bounds in self.bounds(places).items():
            young = (one.offset for one in self._topics.logs[place] if one.timestamp_ms >= since_ms)
            found[place] = next(young, bounds.end) if since_ms else bounds.first
        return found

    def read(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], *, key: bytes | None = None
    ) -> Iterator[Record]:
        for place, start in starts.items():
            for record in list(self._topics.logs[place]):
                if self.stopped.is_set():
                    raise ReadInterrupted("The read was interrupted.")
                if start <= record.offset < ends[place] and key in (None, record.key):
                    self._topics.read.append(record)
                    yield record

    def tail(self, places: Mapping[Place, int]) -> Tail:
        return MemoryTail(self._topics, places, self)


class MemoryTail(Tail):
    """A Tail likewise."""

    def __init__(self, topics: MemoryTopics, places: Mapping[Place, int], reader: MemoryReader) -> None:
        self.positions = dict(places)
        self._topics, self._reader = topics, reader

    def read(self, timeout_s: float) -> list[Record]:
        if self._reader.stopped.is_set():
            raise ReadInterrupted("The read was interrupted.")
        found: list[Record] = []
        for place, position in self.positions.items():
            new = [record for record in self._topics.logs[place] if record.offset >= position]
            found += new
            if new:
                self.positions[place] = new[-1].offset + 1
        if not found:
            time.sleep(min(timeout_s, 0.01))
        return found

    def end(self, topic: str, partition: int) -> int:
        return self._reader.bounds([(topic, partition)])[topic, partition].end

    def lag(self) -> int:
        return sum(self.end(*place) - position for place, position in self.positions.items())

    def close(self) -> None:
        pass


class MemoryProducer(SyncProducer):
    """A SyncProducer likewise."""

    def __init__(self, topics: MemoryTopics) -> None:
        self.sent, self.last_offset = 0, -1
        self._topics = topics

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        self.last_offset = self._topics.append(topic, key, value, headers, partition).offset
        self.sent += 1

    def finish(self) -> int:
        return self.sent
