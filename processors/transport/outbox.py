"""Sends records and tells their offsets once Kafka has them: nothing is acknowledged on the strength of a hope.

Records of one partition go out in the order of the calls, one batch in flight at a time. A batch goes at once when the
partition is idle; what comes meanwhile goes together in the next. A batch costs as much as some fifty records, here and
at the broker, so beyond a number of batches a second partitions take turns: load makes batches, quiet makes no delay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from time import time
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from processors.errors import DeliveryFailed
from processors.transport.credentials import Security
from processors.transport.pace import Pace
from processors.transport.partitioner import partition_for

__all__ = ["Outbox", "Outgoing", "RecordTooLarge", "partition_for"]

# Room for the batch's header, the record's lengths and its share of compression framing.
_RECORD_OVERHEAD_BYTES = 128
# Kafka's default for a batch is 1 MiB; half of it still spreads the cost of a request over a thousand records.
_BATCH_BYTES = 512 * 1024
_STOP_WITHIN_S = 5.0
# A batch costs ~0.1 ms here and half of that at the broker, whatever is in it: no more than a fifth of a core goes there.
_BATCHES_PER_SECOND = 1_500
# As many partitions as a burst of work touches may be written to before the pace counts.
_BATCHES_AT_ONCE = 60
_NO_HEADERS: list[tuple[str, bytes]] = []


class RecordTooLarge(DeliveryFailed):
    """A record exceeds what the broker takes; nothing of the call was sent, and the outbox can still be used."""


class Outgoing(NamedTuple):
    """A record to send; a value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        """What the record takes in a batch, at most."""
        size = len(self.key or b"") + len(self.value or b"") + _RECORD_OVERHEAD_BYTES
        return size + sum(len(name) + len(value) + 10 for name, value in self.headers)


class _Delivery:
    """One call of send(): completed when each of its records has an offset."""

    __slots__ = ("acknowledged", "missing", "offsets")

    def __init__(self, count: int, acknowledged: asyncio.Future[None]) -> None:
        self.offsets = [-1] * count
        self.missing = count
        self.acknowledged = acknowledged

    def fail(self, error: DeliveryFailed) -> None:
        if not self.acknowledged.done():
            self.acknowledged.set_exception(error)


_Entry = tuple[Outgoing, _Delivery, int]


class _Lane:
    """What waits and what is in flight for one partition."""

    __slots__ = ("busy", "in_flight", "partition", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[_Entry] = deque()
        self.in_flight: list[_Entry] = []
        # A batch is in flight, or about to be: only one at a time keeps the order.
        self.busy = False

    def failed(self, cause: str) -> DeliveryFailed:
        size = sum(item.size_bytes for item, _, _ in self.in_flight)
        return DeliveryFailed(
            f"Kafka did not acknowledge {len(self.in_flight)} records ({size} bytes) for {self.topic}-{self.partition}"
            f": {cause}. Nothing that depends on them is committed; see to the broker and the topic, then restart."
        )


class Outbox:
    """An idempotent producer (acks=all). Use as an async context manager, or start() and stop() it.

    Once Kafka has refused a batch, or kept silent for `within`, every further send fails: the producer's sequence is
    broken, and only a new process can continue from what is committed.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        security: Security | None = None,
        *,
        client_id: str = "scrapesaga",
        max_record_bytes: int = 1_000_000,
        compression: str | None = None,
        within: timedelta = timedelta(seconds=30),
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._security = security or Security()
        self._client_id = client_id
        self._max_record_bytes = max_record_bytes
        self._compression = compression
        self._within_s = within.total_seconds()
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._pace = Pace(_BATCHES_PER_SECOND, _BATCHES_AT_ONCE)
        # Lanes with something to send, in the order in which they will; and the next time that one is asked.
        self._turns: deque[_Lane] = deque()
        self._next_turn: asyncio.Handle | None = None
        self._failed: DeliveryFailed | None = None
        self._ships: set[asyncio.Task[None]] = set()

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
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=max(self._max_record_bytes, _BATCH_BYTES) + _RECORD_OVERHEAD_BYTES,
            request_timeout_ms=int(self._within_s * 1000),
            compression_type=self._compression,
            **self._security.for_aiokafka(),
        )
        try:
            await producer.start()
        except BaseException as error:
            await producer.stop()
            if isinstance(error, KafkaError):
                raise DeliveryFailed(f"Kafka at {self._bootstrap_servers} can't be reached: {error}") from error
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Wait a few seconds for what is in flight, then close; calls that still wait raise DeliveryFailed."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._next_turn is not None:
            self._next_turn.cancel()
        error = DeliveryFailed("The outbox was stopped before Kafka acknowledged the records.")
        self._failed = self._failed or error
        try:
            await asyncio.wait_for(producer.stop(), _STOP_WITHIN_S)
        except (TimeoutError, KafkaError):
            # aiokafka flushes for ever when the broker is gone.
            with suppress(TimeoutError, KafkaError, asyncio.CancelledError):
                await asyncio.wait_for(producer._sender.close(), _STOP_WITHIN_S)
            await producer.client.close()
        for lane in self._lanes.values():
            for _, delivery, _ in (*lane.in_flight, *lane.waiting):
                delivery.fail(error)

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; DeliveryFailed if it doesn't exist."""
        try:
            return len(await self._running().partitions_for(topic))
        except KafkaError as error:
            raise DeliveryFailed(
                f"Topic {topic} can't be written to: {error!r}. Provision the topics first."
            ) from error

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Send records and return their offsets, in order of `items`, once every one of them is acknowledged.

        Raises RecordTooLarge before anything is sent, DeliveryFailed otherwise. A call that is cancelled may have sent.
        """
        if not items:
            return []
        lanes = await self._lanes_of(items)
        loop = asyncio.get_running_loop()
        delivery = _Delivery(len(items), loop.create_future())
        touched: dict[_Lane, None] = {}
        for index, (item, lane) in enumerate(zip(items, lanes, strict=True)):
            lane.waiting.append((item, delivery, index))
            touched[lane] = None
        # From here to the last lane nothing suspends: the topics are known and an idle lane has nothing queued.
        for lane in touched:
            if not lane.busy:
                lane.busy = True
                self._turns.append(lane)
        await self._ship_in_turn()
        expiry = loop.call_later(self._within_s, self._expire, delivery, touched)
        try:
            await delivery.acknowledged
        finally:
            expiry.cancel()
        return delivery.offsets

    async def _lanes_of(self, items: Sequence[Outgoing]) -> list[_Lane]:
        """The lane of each record; everything that can be refused is refused here."""
        limit, known = self._max_record_bytes, self._lanes
        lanes: list[_Lane] = []
        for item in items:
            # Nearly all are far below it: the exact size is computed for the others.
            if item.headers or len(item.value or b"") + len(item.key or b"") + _RECORD_OVERHEAD_BYTES > limit:
                self._check_size(item)
            lane = known.get(item[:2])
            lanes.append(await self._new_lane(item) if lane is None else lane)
        # Last, as nothing may suspend between it and the hand-over.
        self._running()
        return lanes

    def _check_size(self, item: Outgoing) -> None:
        size, limit = item.size_bytes, self._max_record_bytes
        if size > limit:
            raise RecordTooLarge(
                f"A record of {size} bytes for {item.topic}-{item.partition} (key {item.key!r}) exceeds the limit "
                f"of {limit} bytes: shorten it, or raise the limit here and max.message.bytes of the topic."
            )

    async def _new_lane(self, item: Outgoing) -> _Lane:
        partitions = self._running()._metadata.partitions_for_topic(item.topic)
        if partitions is None:
            partitions = range(await self.partitions(item.topic))
        if item.partition not in partitions:
            raise DeliveryFailed(
                f"Topic {item.topic} has no partition {item.partition}: check the partition counts."
            )
        return self._lanes.setdefault(item[:2], _Lane(item.topic, item.partition))

    def _running(self) -> AIOKafkaProducer:
        if self._failed is not None:
            raise self._failed
        if self._producer is None:
            raise DeliveryFailed("The outbox is not started.")
        return self._producer

    async def _ship_in_turn(self) -> None:
        """Send a batch of each lane whose turn it is; the others are asked again when there is a turn for them."""
        while self._turns:
            if not self._pace.take():
                if self._next_turn is None:
                    loop = asyncio.get_running_loop()
                    self._next_turn = loop.call_later(self._pace.wait_s(), self._take_turns)
                return
            await self._ship(self._turns.popleft())

    def _take_turns(self) -> None:
        self._next_turn = None
        ship = asyncio.ensure_future(self._ship_in_turn())
        self._ships.add(ship)
        ship.add_done_callback(self._ships.discard)

    async def _ship(self, lane: _Lane) -> None:
        """Send one batch of what waits."""
        producer = self._producer
        if producer is None or self._failed is not None:
            self._fail(lane, self._failed or lane.failed("the outbox is not started"))
            return
        builder = producer.create_batch()
        waiting, now_ms = lane.waiting, int(time() * 1000)
        shipped: list[_Entry] = []
        while waiting:
            item = waiting[0][0]
            headers = list(item.headers) if item.headers else _NO_HEADERS
            if builder.append(key=item.key, value=item.value, timestamp=now_ms, headers=headers) is None:
                break
            shipped.append(waiting.popleft())
        lane.in_flight = shipped
        builder.close()
        try:
            acknowledgement = await producer.send_batch(builder, lane.topic, partition=lane.partition)
        except KafkaError as error:
            self._fail(lane, lane.failed(repr(error)), error)
        else:
            acknowledgement.add_done_callback(lambda done: self._on_acknowledged(lane, done))

    def _on_acknowledged(self, lane: _Lane, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            self._fail(lane, lane.failed("the producer was closed"))
            return
        error = done.exception()
        if error is not None:
            self._fail(lane, lane.failed(repr(error)), error)
            return
        base = done.result().offset
        if base < 0:
            # A repeat that the broker recognised, so late that it forgot where the first one went.
            self._fail(lane, lane.failed("acknowledged as a duplicate of unknown offset"))
            return
        for place, (_, delivery, index) in enumerate(lane.in_flight):
            delivery.offsets[index] = base + place
            delivery.missing -= 1
            if not delivery.missing and not delivery.acknowledged.done():
                delivery.acknowledged.set_result(None)
        lane.in_flight = []
        lane.busy = bool(lane.waiting)
        if lane.busy:
            self._turns.append(lane)
            if self._next_turn is None:
                # Once for all lanes that one answer of the broker's frees.
                self._next_turn = asyncio.get_running_loop().call_soon(self._take_turns)

    def _fail(self, lane: _Lane, failure: DeliveryFailed, cause: BaseException | None = None) -> None:
        failure.__cause__ = cause
        self._failed = self._failed or failure
        for _, delivery, _ in (*lane.in_flight, *lane.waiting):
            delivery.fail(failure)
        lane.waiting.clear()

    def _expire(self, delivery: _Delivery, lanes: Iterable[_Lane]) -> None:
        late = [lane for lane in lanes if lane.in_flight]
        failure = late[0].failed(f"no answer within {self._within_s:g} s") if late else None
        self._failed = self._failed or failure
        delivery.fail(failure or DeliveryFailed("Kafka did not acknowledge the records in time."))
