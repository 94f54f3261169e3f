"""Reads partitions of the saga log by offset, in bulk, for the thread that restores the table.

It reads uncommitted records, where every other reader skips them: the engine writes states without transactions, and a
transaction that somebody else left open on this topic would hide every state behind it for up to a quarter of an hour. A
table that was restored without them would decide from states of the past. What was aborted does no harm here: it is
somebody else's record in any case, which fencing.py compares with the table.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, KafkaException, Message

from processors.kafka.reader import Bounds, Reader, ReadFailed, ReadInterrupted
from processors.saga_table.changelog import ChangelogEntry, seq_in

__all__ = ["ChangelogReader", "LogRecord", "OnChunk", "ReadFailed", "ReadInterrupted"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of the changelog; `seq` is what a tombstone says, -1 for values."""

    offset: int
    key: bytes
    value: bytes | None
    seq: int = -1


# (partition, records in order, the offset up to which the log is now known)
OnChunk = Callable[[int, Sequence[ChangelogEntry], int], None]


class ChangelogReader:
    """A connection that reads one topic; for one thread at a time. Its methods raise ReadFailed."""

    def __init__(
        self, topic: str, client: Mapping[str, str | int | bool], *, patience: timedelta = timedelta(seconds=60)
    ) -> None:
        """`client` holds librdkafka's `bootstrap.servers` and security settings; no answer for `patience` is an
        error."""
        self._topic = topic
        # If the log has lost an offset that the table knows, this must be an error.
        self._reader = Reader(
            client,
            isolation="read_uncommitted",
            lost="error",
            silence_s=patience.total_seconds(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def bounds(self, partition: int) -> Bounds:
        """The first offset that the partition holds, and the one after its last."""
        place = self._topic, partition
        try:
            return self._reader.bounds([place])[place]
        except KafkaException as error:
            raise ReadFailed(f"Kafka doesn't say where {self._topic} [{partition}] ends: {error}") from error

    def read_to_end(self, starts: Mapping[int, int], on_chunk: OnChunk, stop: threading.Event) -> None:
        """Hand every record from `starts` (partition -> offset) to the end to `on_chunk`.

        Each partition ends with a chunk, perhaps empty, that names the offset before its end. Raises ReadInterrupted
        once `stop` is set.
        """
        self._reader.stopped = stop
        places = {(self._topic, partition): offset or OFFSET_BEGINNING for partition, offset in starts.items()}
        try:
            for run in self._reader.runs(places):
                on_chunk(run.place[1], [_change(message) for message in run.messages], run.next_offset - 1)
        except KafkaException as error:
            raise ReadFailed(f"Cannot read {self._topic}: {error}") from error

    def read_range(self, partition: int, first: int, last: int) -> list[LogRecord]:
        """The records that are left of the offsets `first` to `last`, in order."""
        place = self._topic, partition
        first = max(first, self.bounds(partition).first)
        try:
            return [
                LogRecord(record.offset, record.key or b"", record.value, seq_in(record.headers))
                for record in self._reader.read({place: first}, {place: last + 1})
            ]
        except KafkaException as error:
            raise ReadFailed(f"Cannot read {self._topic} [{partition}]: {error}") from error


def _change(message: Message) -> ChangelogEntry:
    # Not checked, because this runs for each record of a restore: every record of this topic has a key, and bytes.
    value: bytes | None = message.value()
    if value is None:
        return message.key(), None, seq_in(message.headers())  # type: ignore[arg-type, return-value]  # as said
    return message.key(), value, -1  # type: ignore[return-value]  # as said
