"""The records of one partition on their way to Kafka: what waits, what is in flight, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from confluent_kafka import KafkaError

from processors.errors import DeliveryFailed
from processors.kafka.record import Headers

# Room for the batch's header, the record's lengths and its share of compression framing.
RECORD_OVERHEAD_BYTES = 128
# Kafka's default for a batch is 1 MiB; half of it still spreads the cost of a request over a thousand records.
BATCH_BYTES = 512 * 1024


class RecordTooLarge(DeliveryFailed):
    """A record exceeds what the broker takes; nothing of the call was sent, and the producer can still be used."""


class Outgoing(NamedTuple):
    """A record to send; a value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def size_bytes(self) -> int:
        """What the record takes in a batch, at most."""
        size = len(self.key or b"") + len(self.value or b"") + RECORD_OVERHEAD_BYTES
        return size + sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)


class PendingSend:
    """One call of send(): completed when each of its records has an offset."""

    __slots__ = ("acknowledged", "missing", "offsets")

    def __init__(self, count: int, acknowledged: asyncio.Future[None]) -> None:
        self.offsets = [-1] * count
        self.missing = count
        self.acknowledged = acknowledged

    def fail(self, error: DeliveryFailed) -> None:
        """Tell the caller, if it hasn't been told."""
        if not self.acknowledged.done():
            self.acknowledged.set_exception(error)


QueuedRecord = tuple[Outgoing, PendingSend, int]


class PartitionQueue:
    """What waits and what is in flight for one partition."""

    __slots__ = ("_finished", "busy", "error", "in_flight", "offsets", "partition", "topic", "waiting")

    def __init__(self, topic: str, partition: int, finished: list[PartitionQueue]) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[QueuedRecord] = deque()
        # What is written while a batch is in flight is written by the thread of the reports, else by the loop.
        self.in_flight: list[QueuedRecord] = []
        self.offsets: list[int] = []
        self.error: KafkaError | None = None
        self._finished = finished
        # A batch is in flight, or about to be: only one at a time keeps the order.
        self.busy = False

    def take(self) -> list[QueuedRecord]:
        """Take the next batch of what waits: at least one record, and then no more than a batch holds."""
        waiting, room = self.waiting, BATCH_BYTES
        taken: list[QueuedRecord] = []
        while waiting:
            item = waiting[0][0]
            room -= len(item.value or b"") + RECORD_OVERHEAD_BYTES
            if room < 0 and taken:
                break
            taken.append(waiting.popleft())
        self.in_flight, self.offsets = taken, []
        return taken

    def report(self, error: KafkaError | None, message: Any) -> None:
        """Note what became of one record of the batch; called in the thread of the reports."""
        if error is not None:
            self.error = error
        self.offsets.append(message.offset())
        if len(self.offsets) == len(self.in_flight):
            self._finished.append(self)

    def failed(self, cause: str) -> DeliveryFailed:
        """Return the error that names what is in flight."""
        size = sum(item.size_bytes for item, _, _ in self.in_flight)
        return DeliveryFailed(
            f"Kafka did not acknowledge {len(self.in_flight)} records ({size} bytes) for {self.topic}-{self.partition}"
            f": {cause}. Nothing that depends on them is committed; see to the broker and the topic, then restart."
        )
