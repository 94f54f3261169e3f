"""How far each partition was read: what was written before is known, what comes after isn't.

Records of different topics are read in no particular order. What one of them promises about another is judged once the
other's partition was read past that moment: a later record of it was read, or its end was, asked for since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

# Partitions have their leaders on different brokers, and each stamps with a clock of its own.
SKEW_MS = 2_000

Item = TypeVar("Item")


class Moment(NamedTuple):
    """When something was written, by the broker, and when it was read here, counted in records."""

    written_ms: int
    read_number: int


class Watermark:
    """Up to which moment each partition was read."""

    def __init__(self) -> None:
        self.records_read = 0
        self._read_ms: dict[tuple[str, int], int] = {}
        self._at_end: dict[tuple[str, int], int] = {}

    def read(self, topic: str, partition: int, timestamp_ms: int) -> Moment:
        """Note a record that was read; return its moment."""
        self.records_read += 1
        key = (topic, partition)
        if timestamp_ms > self._read_ms.get(key, -1):
            self._read_ms[key] = timestamp_ms
        return Moment(timestamp_ms, self.records_read)

    def at_end(self, topic: str, partition: int, read_number: int) -> None:
        """Note that a partition was read to the end that it had when `read_number` records had been read here."""
        self._at_end[topic, partition] = read_number

    def passed(self, topic: str, partition: int, moment: Moment) -> bool:
        """Whether all that a partition got up to a moment, by any broker's clock, was read."""
        key = (topic, partition)
        if self._at_end.get(key, -1) >= moment.read_number:
            return True
        return self._read_ms.get(key, -1) > moment.written_ms + SKEW_MS

    def known_ms(self, topic: str, partition: int, now_ms: int) -> int:
        """Return up to which time a partition is known: now, if nothing was read since its end was."""
        key = (topic, partition)
        return now_ms if self._at_end.get(key, -1) >= self.records_read else self._read_ms.get(key, -1)


class Waiting(Generic[Item]):
    """What is judged later, in the order of its arrival, for each partition that it waits for."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, int], deque[tuple[Moment, Item]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def partitions(self) -> Iterator[tuple[str, int]]:
        """Yield the partitions that something waits for."""
        return (place for place, queue in self._queues.items() if queue)

    def add(self, topic: str, partition: int, moment: Moment, item: Item) -> None:
        """Wait until a partition was read past a moment."""
        self._queues.setdefault((topic, partition), deque()).append((moment, item))

    def ripe(self, watermark: Watermark) -> Iterator[Item]:
        """Take out what waits no longer."""
        # A copy: what is judged may wait for something else.
        for (topic, partition), queue in list(self._queues.items()):
            while queue and watermark.passed(topic, partition, queue[0][0]):
                yield queue.popleft()[1]
