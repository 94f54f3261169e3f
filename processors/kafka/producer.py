"""Sends records and tells their offsets once Kafka has them: nothing is acknowledged on the strength of a hope.

Records of one partition go out in the order of the calls, one batch in flight at a time. A batch goes at once when the
partition is idle; what comes meanwhile goes together in the next. A batch costs as much as some fifty records, here and
at the broker, so beyond a number of batches a second partitions take turns: load makes batches, quiet makes no delay.

librdkafka carries them: a record alone costs half of what it does through aiokafka, and is there in half the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as ConfluentProducer

from processors.errors import DeliveryFailed
from processors.kafka.credentials import Security
from processors.kafka.delivery_reports import DeliveryReports
from processors.kafka.partition_queue import (
    BATCH_BYTES,
    RECORD_OVERHEAD_BYTES,
    Outgoing,
    PartitionQueue,
    PendingSend,
    RecordTooLarge,
)
from processors.kafka.partitioner import partition_for
from processors.kafka.token_bucket import TokenBucket

__all__ = ["Outgoing", "Producer", "RecordTooLarge", "partition_for"]

_librdkafka = logging.getLogger("librdkafka")

_CONNECT_WITHIN_S = 10.0
_ASK_AGAIN_S = 0.2
# A batch costs ~0.1 ms here and half of that at the broker, whatever is in it: no more than a fifth of a core goes there.
_BATCHES_PER_SECOND = 1_500
# As many partitions as a burst of work touches may be written to before the pace counts.
_BATCHES_AT_ONCE = 60
# librdkafka gives up a record later than we do: the reason that is told is then ours, in every case the same.
_LONGER_S = 5.0


class Producer:
    """An idempotent producer (acks=all). Use as an async context manager, or start() and stop() it.

    `limits` is the largest record of each topic, `max_record_bytes` that of topics which it doesn't name.

    Once Kafka has refused a batch, or kept silent for `within`, every further send fails: only a new process can
    continue from what is committed.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        security: Security | None = None,
        *,
        client_id: str = "scrapesaga",
        max_record_bytes: int = 1_000_000,
        limits: Mapping[str, int] | None = None,
        compression: str | None = None,
        within: timedelta = timedelta(seconds=30),
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._max_record_bytes = max_record_bytes
        self._limits = dict(limits or {})
        self._smallest_limit = min((max_record_bytes, *self._limits.values()))
        self._within_s = within.total_seconds()
        self._settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "client.id": client_id,
            "enable.idempotence": True,
            "acks": "all",
            # What is to go together comes together: see PartitionQueue.
            "linger.ms": 0,
            # What comes while one request is under way goes together in the next, whatever its partition.
            "max.in.flight.requests.per.connection": 1,
            "compression.type": compression or "none",
            "message.max.bytes": max(max_record_bytes, BATCH_BYTES) + RECORD_OVERHEAD_BYTES,
            # Bounded by whoever waits for the acknowledgements.
            "queue.buffering.max.messages": 0,
            "message.timeout.ms": int((self._within_s + _LONGER_S) * 1000),
            "reconnect.backoff.max.ms": 1_000,
            **(security or Security()).for_confluent(),
        }
        # There from start() to stop().
        self._reports: DeliveryReports | None = None
        self._partition_counts: dict[str, int] = {}
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self._bucket = TokenBucket(_BATCHES_PER_SECOND, _BATCHES_AT_ONCE)
        # Queues with something to send, in the order in which they will; and the next time that one is asked.
        self._turns: deque[PartitionQueue] = deque()
        self._next_turn: asyncio.Handle | None = None
        self._failed: DeliveryFailed | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect; DeliveryFailed if Kafka can't be reached."""
        try:
            confluent = ConfluentProducer(self._settings, logger=_librdkafka)
            self._partition_counts = await asyncio.to_thread(
                _partition_counts, confluent, min(_CONNECT_WITHIN_S, self._within_s)
            )
        except KafkaException as error:
            raise DeliveryFailed(f"Kafka at {self._bootstrap_servers} can't be reached: {_said(error)}") from error
        self._reports = DeliveryReports(confluent, self._settle_all)

    async def stop(self) -> None:
        """Wait a few seconds for what is in flight, then close; calls that still wait raise DeliveryFailed."""
        reports, self._reports = self._reports, None
        if reports is None:
            return
        if self._next_turn is not None:
            self._next_turn.cancel()
        error = DeliveryFailed("The producer was stopped before Kafka acknowledged the records.")
        self._failed = self._failed or error
        await reports.stop()
        for queue in self._queues.values():
            for _, pending, _ in (*queue.in_flight, *queue.waiting):
                pending.fail(error)

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; DeliveryFailed if it doesn't exist."""
        give_up, cause = monotonic() + self._within_s, "unknown topic"
        # Asked again: a broker that has just started may know no topic for a moment.
        while (left_s := give_up - monotonic()) > 0:
            confluent = self._running().confluent
            try:
                self._partition_counts = await asyncio.to_thread(_partition_counts, confluent, left_s)
            except KafkaException as error:
                cause = _said(error)
            if topic in self._partition_counts:
                return self._partition_counts[topic]
            await asyncio.sleep(min(_ASK_AGAIN_S, left_s))
        raise DeliveryFailed(f"Topic {topic} can't be written to: {cause}. Provision the topics first.")

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Send records and return their offsets, in order of `items`, once every one of them is acknowledged.

        Raises RecordTooLarge before anything is sent, DeliveryFailed otherwise. A call that is cancelled may have sent.
        """
        if not items:
            return []
        queues = await self._queues_of(items)
        loop = asyncio.get_running_loop()
        pending = PendingSend(len(items), loop.create_future())
        touched: dict[PartitionQueue, None] = {}
        for index, (item, queue) in enumerate(zip(items, queues, strict=True)):
            queue.waiting.append((item, pending, index))
            touched[queue] = None
        for queue in touched:
            if not queue.busy:
                queue.busy = True
                self._turns.append(queue)
        self._ship_in_turn()
        expiry = loop.call_later(self._within_s, self._expire, pending, touched)
        try:
            await pending.acknowledged
        finally:
            expiry.cancel()
        return pending.offsets

    async def _queues_of(self, items: Sequence[Outgoing]) -> list[PartitionQueue]:
        """The queue of each record; everything that can be refused is refused here."""
        limit, known = self._smallest_limit, self._queues
        queues: list[PartitionQueue] = []
        for item in items:
            # Nearly all are far below it: the exact size is computed for the others.
            if item.headers or len(item.value or b"") + len(item.key or b"") + RECORD_OVERHEAD_BYTES > limit:
                self._check_size(item)
            queue = known.get(item[:2])
            queues.append(await self._new_queue(item) if queue is None else queue)
        # Last, as nothing may suspend between it and the hand-over.
        self._running()
        return queues

    def _check_size(self, item: Outgoing) -> None:
        size, limit = item.size_bytes, self._limits.get(item.topic, self._max_record_bytes)
        if size > limit:
            key = bytes(item.key or b"")[:100]
            raise RecordTooLarge(
                f"a record of {size} bytes for {item.topic}-{item.partition} (key {key!r}) exceeds the topic's limit of "
                f"{limit} bytes"
            )

    async def _new_queue(self, item: Outgoing) -> PartitionQueue:
        count = self._partition_counts.get(item.topic, 0)
        if item.partition >= count:
            # New since it was last looked up, or wrong.
            count = await self.partitions(item.topic)
        if not 0 <= item.partition < count:
            raise DeliveryFailed(f"Topic {item.topic} has no partition {item.partition}: check the partition counts.")
        return self._queues.setdefault(item[:2], PartitionQueue(item.topic, item.partition, self._running().finished))

    def _running(self) -> DeliveryReports:
        if self._failed is not None:
            raise self._failed
        if self._reports is None:
            raise DeliveryFailed("The producer is not started.")
        return self._reports

    def _ship_in_turn(self) -> None:
        """Send a batch of each queue whose turn it is; the others are asked again when there is a turn for them."""
        while self._turns:
            if not self._bucket.take():
                if self._next_turn is None:
                    loop = asyncio.get_running_loop()
                    self._next_turn = loop.call_later(self._bucket.wait_s(), self._take_turns)
                return
            self._ship(self._turns.popleft())

    def _take_turns(self) -> None:
        self._next_turn = None
        self._ship_in_turn()

    def _ship(self, queue: PartitionQueue) -> None:
        """Send one batch of what waits."""
        reports = self._reports
        if reports is None or self._failed is not None:
            self._fail(queue, self._failed or queue.failed("the producer is not started"))
            return
        produce, topic, partition, report = reports.confluent.produce, queue.topic, queue.partition, queue.report
        try:
            batch = queue.take()
            reports.expect(len(batch))
            for item, _, _ in batch:
                if item.headers:
                    produce(topic, item.value, item.key, partition, report, headers=list(item.headers))
                else:
                    produce(topic, item.value, item.key, partition, report)
        except (KafkaException, BufferError) as error:
            self._fail(queue, queue.failed(_said(error)), error)

    def _settle_all(self, queues: Sequence[PartitionQueue]) -> None:
        for queue in queues:
            self._settle(queue)
        if self._next_turn is None:
            self._ship_in_turn()

    def _settle(self, queue: PartitionQueue) -> None:
        """Tell whoever waits for a batch what became of it."""
        if queue.error is not None:
            self._fail(queue, queue.failed(queue.error.name()), KafkaException(queue.error))
            return
        # The log has them in the order in which they were sent, whatever the order of the reports.
        offsets = sorted(queue.offsets)
        if offsets[0] < 0:
            # A repeat that the broker recognised, so late that it forgot where the first one went.
            self._fail(queue, queue.failed("acknowledged as a duplicate of unknown offset"))
            return
        for (_, pending, index), offset in zip(queue.in_flight, offsets, strict=True):
            pending.offsets[index] = offset
            pending.missing -= 1
            if not pending.missing and not pending.acknowledged.done():
                pending.acknowledged.set_result(None)
        queue.in_flight = []
        queue.busy = bool(queue.waiting)
        if queue.busy:
            self._turns.append(queue)

    def _fail(self, queue: PartitionQueue, failure: DeliveryFailed, cause: BaseException | None = None) -> None:
        failure.__cause__ = cause
        self._failed = self._failed or failure
        for _, pending, _ in (*queue.in_flight, *queue.waiting):
            pending.fail(failure)
        queue.waiting.clear()

    def _expire(self, pending: PendingSend, queues: Iterable[PartitionQueue]) -> None:
        late = [queue for queue in queues if queue.in_flight]
        failure = late[0].failed(f"no answer within {self._within_s:g} s") if late else None
        self._failed = self._failed or failure
        pending.fail(failure or DeliveryFailed("Kafka did not acknowledge the records in time."))


def _partition_counts(confluent: ConfluentProducer, within_s: float) -> dict[str, int]:
    """Ask for all topics: asking for one by its name would make it where brokers make topics by themselves."""
    topics = confluent.list_topics(timeout=within_s).topics
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def _said(error: BaseException) -> str:
    """What librdkafka says of an error, with its name."""
    first = error.args[0] if error.args else error
    return f"{first.name()} ({first.str()})" if isinstance(first, KafkaError) else repr(error)
