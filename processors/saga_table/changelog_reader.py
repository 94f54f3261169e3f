"""Reads partitions of one topic by offset, in bulk, without a consumer group."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from types import MappingProxyType, TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.errors import ScrapesagaError
from processors.saga_table.changelog import ChangelogEntry, seq_in

# Large enough that the calls cost little, small enough that a stop is heard within milliseconds. A chunk's objects come and
# go among those that stay, and Python keeps their room: 5,000 left 1.5 MB more of it, and were no faster.
_CHUNK = 1000
_POLL_S = 0.1

_SETTINGS: Mapping[str, str | int | bool] = MappingProxyType(
    {
        # Required by the client, never joined: partitions are assigned by hand and nothing is committed.
        "group.id": "scrapesaga-changelog-reader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # The end is where the broker says so. The offset before the high watermark may have been compacted away.
        "enable.partition.eof": True,
        # A transaction that somebody else left open must not hide what follows it.
        "isolation.level": "read_uncommitted",
        "auto.offset.reset": "error",
        # It would write to stderr, several times a second while Kafka is away. What matters is raised here.
        "log_level": 0,
        # The default of 500 ms is waited for at the end of each partition.
        "fetch.wait.max.ms": 50,
        # A second by default, in which a partition that was read faster than it came stands still.
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 16 * 1024,
    }
)


class ReadInterrupted(ScrapesagaError):
    """A read was told to stop before it reached the end."""


class ReadFailed(ScrapesagaError):
    """Records of the changelog could not be read: Kafka didn't answer, or they are gone."""


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
    """A connection that reads one topic; for one thread at a time."""

    def __init__(
        self, topic: str, client: Mapping[str, str | int | bool], *, patience: timedelta = timedelta(seconds=60)
    ) -> None:
        """`client` holds librdkafka's `bootstrap.servers` and security settings; no answer for `patience` is an
        error."""
        self._topic = topic
        self._patience_s = patience.total_seconds()
        self._consumer = Consumer({**client, **_SETTINGS})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that the partition holds, and the one after its last."""
        try:
            bounds = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=self._patience_s, cached=False
            )
        except KafkaException as error:
            raise ReadFailed(f"Kafka doesn't say where {self._topic} [{partition}] ends: {error}") from error
        if bounds is None:
            raise ReadFailed(
                f"Kafka doesn't say where {self._topic} [{partition}] ends within {self._patience_s:.0f} s."
            )
        return bounds

    def read_to_end(self, starts: Mapping[int, int], on_chunk: OnChunk, stop: threading.Event) -> None:
        """Hand every record from `starts` (partition -> offset) to the end to `on_chunk`.

        Each partition ends with a chunk, perhaps empty, that names the offset before its end. Raises ReadInterrupted
        once `stop` is set, ReadFailed.
        """
        open_partitions = set(starts)
        self._consumer.assign(
            [TopicPartition(self._topic, p, offset or OFFSET_BEGINNING) for p, offset in starts.items()]
        )
        try:
            quiet_since = time.monotonic()
            while open_partitions:
                if stop.is_set():
                    raise ReadInterrupted(f"Reading {self._topic} was interrupted.")
                messages = self._consumer.consume(_CHUNK, _POLL_S)
                if messages:
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > self._patience_s:
                    raise ReadFailed(
                        f"Kafka sent nothing of {self._topic} {sorted(open_partitions)} for {self._patience_s:.0f} s."
                    )
                for partition, run in groupby(messages, Message.partition):
                    if partition in open_partitions and self._hand_over(partition, list(run), on_chunk):
                        open_partitions.discard(partition)
                        self._consumer.pause([TopicPartition(self._topic, partition)])
        finally:
            self._consumer.unassign()

    def read_range(self, partition: int, first: int, last: int) -> list[LogRecord]:
        """The records that are left of the offsets `first` to `last`, in order; ReadFailed."""
        records: list[LogRecord] = []
        first = max(first, self.bounds(partition)[0])
        if first > last:
            return records
        self._consumer.assign([TopicPartition(self._topic, partition, first)])
        try:
            give_up = time.monotonic() + self._patience_s
            while time.monotonic() < give_up:
                for message in self._consumer.consume(min(_CHUNK, last - first + 1), _POLL_S):
                    if (error := message.error()) is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            return records
                        self._fail_for_good(error, partition)
                        continue
                    offset: int = message.offset()  # type: ignore[assignment]  # one that was read has an offset
                    if offset <= last:
                        key, value, seq = _change(message)
                        records.append(LogRecord(offset, key, value, seq))
                    if offset >= last:
                        return records
        finally:
            self._consumer.unassign()
        raise ReadFailed(
            f"Kafka did not send offsets {first} to {last} of {self._topic} [{partition}] "
            f"within {self._patience_s:.0f} s."
        )

    def _hand_over(self, partition: int, run: list[Message], on_chunk: OnChunk) -> bool:
        """Whether the partition's end was reached."""
        changes: list[ChangelogEntry] = []
        end: int | None = None
        last = -1
        for message in run:
            error = message.error()
            if error is None:
                changes.append(_change(message))
                last = message.offset()  # type: ignore[assignment]  # one that was read has an offset
            elif error.code() == KafkaError._PARTITION_EOF:
                end = message.offset()
            else:
                self._fail_for_good(error, partition)
        if end is not None:
            last = end - 1
        if changes or end is not None:
            on_chunk(partition, changes, last)
        return end is not None

    def _fail_for_good(self, error: KafkaError, partition: int) -> None:
        """Raise unless the client goes on trying by itself."""
        if not error.retriable() and error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise ReadFailed(f"Cannot read {self._topic} [{partition}]: {error.str()}")


def _change(message: Message) -> ChangelogEntry:
    # Checked nowhere, as this runs for each record of a restore: whoever writes to this topic writes keys, and bytes.
    value: bytes | None = message.value()
    if value is None:
        return message.key(), None, seq_in(message.headers())  # type: ignore[arg-type, return-value]  # as said
    return message.key(), value, -1  # type: ignore[return-value]  # as said
