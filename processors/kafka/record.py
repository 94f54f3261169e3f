"""Records as the engine sees them, in batches that can be acknowledged out of order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

#: Names and values of a record's headers. Kafka allows a null value.
Headers = tuple[tuple[str, bytes | None], ...]


def header_values(headers: Headers) -> dict[str, bytes]:
    """Return the headers by name: the last of each counts, a null value is an empty one."""
    return {name: value or b"" for name, value in headers}


class Record(NamedTuple):
    """One Kafka record, undecoded. A tuple: a frozen dataclass takes three times as long to make."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """The broker's clock where the topic stamps LogAppendTime, else the producer's."""
    key: bytes | None
    value: bytes | None
    headers: Headers

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}@{self.offset}"


class PartitionOffsets(Protocol):
    """Keeps which offsets of one partition are done."""

    @property
    def owned(self) -> bool:
        """Whether this process still owns the partition as it did when the records were handed out."""

    def inherited(self, offset: int) -> bool:
        """Whether an earlier owner of the partition may have begun this record: it was there before this process was."""

    def done(self, offset: int) -> None:
        """Note that one record is finished; a second time, or after the partition was revoked, changes nothing."""

    def done_run(self, offsets: Sequence[int]) -> None:
        """Note that a whole run of records, as it was handed out, is finished."""


class Part(NamedTuple):
    """The share of one partition in a batch."""

    partition: int
    tracker: PartitionOffsets
    offsets: Sequence[int]


class Batch:
    """All records that were at hand, in order within each partition.

    The offset that is committed is the lowest one not done of each partition, so records may be finished in any order.
    What is never acknowledged is delivered again, here after a rebalance or to whoever owns the partition next.
    """

    __slots__ = ("_parts", "_trackers", "records")

    def __init__(self, records: Sequence[Record], parts: Sequence[Part]) -> None:
        self.records = records
        self._parts = parts
        self._trackers: dict[int, PartitionOffsets] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def done(self) -> None:
        """Acknowledge all records."""
        for part in self._parts:
            part.tracker.done_run(part.offsets)

    def done_one(self, record: Record) -> None:
        """Acknowledge one record of this batch."""
        self._tracker(record).done(record.offset)

    def owns(self, record: Record) -> bool:
        """Whether the record's partition is still this process's, so that its acknowledgement will count."""
        return self._tracker(record).owned

    def inherited(self, record: Record) -> bool:
        """Whether an earlier owner of the record's partition may have begun it and died without a word."""
        return self._tracker(record).inherited(record.offset)

    def _tracker(self, record: Record) -> PartitionOffsets:
        if self._trackers is None:
            self._trackers = {part.partition: part.tracker for part in self._parts}
        return self._trackers[record.partition]
