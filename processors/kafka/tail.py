"""Partitions that are read on for as long as one likes, from an offset each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from processors.kafka.message_run import Place, ReadFailed, ReadInterrupted, at_hand, in_runs, record_of
from processors.kafka.record import Record

# How long Kafka may be silent in the middle of a read; a broker that lives answers in milliseconds.
SILENCE_S = 20.0
ANSWERED_WITHIN_S = 10.0
POLL_S = 0.1


class Tail:
    """Reads partitions on, through restarts of the broker; in order within each, and in none between them."""

    def __init__(self, consumer: Consumer, places: Mapping[Place, int], stopped: threading.Event) -> None:
        self.positions = dict(places)
        """The next offset of each partition."""
        self._consumer = consumer
        self._stopped = stopped
        consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])

    def read(self, timeout_s: float) -> list[Record]:
        """Return what came, at most some thousand records; after `timeout_s` nothing.

        Raises KafkaException, and ReadInterrupted once the reader was stopped.
        """
        if self._stopped.is_set():
            raise ReadInterrupted("The read was interrupted.")
        records: list[Record] = []
        for run in in_runs(at_hand(self._consumer, timeout_s), self.positions.keys(), None):
            # The end may lie behind the last record: what lies between was removed, or is a transaction's marker.
            self.positions[run.place] = max(self.positions[run.place], run.next_offset)
            records += map(record_of, run.messages)
        return records

    def read_to(self, ends: Mapping[Place, int], silence_s: float = SILENCE_S) -> Iterator[list[Record]]:
        """Yield what comes until every partition was read up to its end, which may be a moment ahead of the log's.

        Raises ReadFailed after a silence.
        """
        heard = time.monotonic()
        while any(self.positions[place] < end for place, end in ends.items()):
            before = sum(self.positions.values())
            yield self.read(POLL_S)
            if sum(self.positions.values()) > before:
                heard = time.monotonic()
            elif time.monotonic() - heard > silence_s:
                names = ", ".join(f"{topic}-{number}" for topic, number in sorted(ends))
                raise ReadFailed(f"Kafka sent nothing of {names} for {silence_s:.0f} s.")

    def seek(self, place: Place, offset: int) -> None:
        """Read one partition again from an offset on."""
        self._consumer.seek(TopicPartition(*place, offset))
        self.positions[place] = offset

    def end(self, topic: str, partition: int) -> int:
        """Ask the broker up to where a partition can be read now. Raises KafkaException."""
        bounds = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWERED_WITHIN_S)
        if bounds is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return bounds[1]

    def lag(self) -> int:
        """Return how many offsets were not read yet, as far as the last fetches told."""
        behind = 0
        for (topic, partition), position in self.positions.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            behind += max(0, high - position)
        return behind

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
