"""Reads the engine's topics from outside, for the command line: bounded, without a consumer group, committing nothing.

Nothing here writes, and no reader of the engine's own is disturbed: partitions are assigned by hand.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]  # not listed in its __all__

from processors.errors import ConfigurationError
from processors.kafka.record import Record

# How long Kafka may be silent before a command gives up; a broker that lives answers in milliseconds.
_SILENCE_S = 20.0
_POLL_S = 0.25
_AT_ONCE = 2_000
_CONNECTED_WITHIN_S = 10.0
_PATIENCE_S = 1.0
# Waiting cannot mend these: the broker is there and said no.
_FINAL = (KafkaError._AUTHENTICATION, KafkaError._SSL)


class TopicMissing(ConfigurationError):
    """A topic that the engine declares isn't on the broker."""

    def __init__(self, topic: str, servers: str) -> None:
        super().__init__(
            f"topic {topic} doesn't exist on Kafka at {servers}; "
            "see SCRAPESAGA_TOPIC_PREFIX, or run `scrapesaga topics apply`"
        )


class Reader:
    """Reads topics with the settings of a confluent client. Raises KafkaException if Kafka can't be reached."""

    def __init__(self, client: Mapping[str, str]) -> None:
        self._client = dict(client)
        self._counts: dict[str, int] | None = None
        self._complaints: deque[KafkaError] = deque(maxlen=16)

    @property
    def servers(self) -> str:
        """Where Kafka is."""
        return self._client["bootstrap.servers"]

    def topics(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic on the broker; asked once."""
        if self._counts is None:
            consumer = self._consumer()
            try:
                found = self._metadata(consumer).topics
            finally:
                consumer.close()
            self._counts = {name: len(about.partitions) for name, about in found.items()}
        return self._counts

    def _metadata(self, consumer: Consumer) -> ClusterMetadata:
        """Ask until Kafka answers; at once no longer when it refuses the login or the certificate."""
        give_up = time.monotonic() + _CONNECTED_WITHIN_S
        while True:
            try:
                return cast(ClusterMetadata, consumer.list_topics(timeout=_PATIENCE_S))
            except KafkaException:
                consumer.poll(0)
                refused = any(complaint.code() in _FINAL for complaint in self._complaints)
                if refused or time.monotonic() > give_up:
                    raise

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has. Raises TopicMissing."""
        count = self.topics().get(topic)
        if not count:
            raise TopicMissing(topic, self.servers)
        return count

    def steps(self, prefix: str) -> tuple[str, ...]:
        """Return the steps that have command topics under a prefix, sorted."""
        head, tail = f"{prefix}.", ".commands"
        return tuple(
            sorted(n[len(head) : -len(tail)] for n in self.topics() if n.startswith(head) and n.endswith(tail))
        )

    def lowest(self, topic: str) -> dict[int, int]:
        """Return the first offset that each partition still has."""
        return {place.partition: place.offset for place, _ in self._bounds(topic, None)}

    def records(
        self, topic: str, partitions: Iterable[int] | None = None, *, offset: int = 0, since_ms: int = 0
    ) -> Iterator[Record]:
        """Yield the records from an offset or a time in milliseconds to the present end, in order per partition."""
        bounds = self._bounds(topic, partitions)
        starts = {place.partition: max(place.offset, offset) for place, _ in bounds}
        ends = {place.partition: high for place, high in bounds}
        consumer = self._consumer()
        try:
            if since_ms:
                asked = [TopicPartition(topic, number, since_ms) for number in starts]
                for place in consumer.offsets_for_times(asked, timeout=10):
                    starts[place.partition] = place.offset if place.offset >= 0 else ends[place.partition]
            open_ = {number for number in starts if starts[number] < ends[number]}
            if not open_:
                return
            consumer.assign([TopicPartition(topic, number, starts[number]) for number in sorted(open_)])
            heard = time.monotonic()
            while open_:
                messages = consumer.consume(_AT_ONCE, timeout=_POLL_S)
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE_S:
                    raise ConfigurationError(
                        f"Kafka at {self.servers} was silent for {_SILENCE_S:.0f} s in the middle of {topic}; try again"
                    )
                for message in messages:
                    number = _partition(message)
                    if _at_end(message):
                        open_.discard(number)
                        continue
                    record = _record(message)
                    if record.offset < ends[number]:
                        yield record
                    if record.offset >= ends[number] - 1:
                        open_.discard(number)
        finally:
            consumer.close()

    def follow(
        self, topic: str, seconds: float | None, partitions: Iterable[int] | None = None
    ) -> Iterator[Record | None]:
        """Yield what is appended from now on, for some seconds or for ever; None when nothing came for a moment."""
        places = [TopicPartition(place.topic, place.partition, high) for place, high in self._bounds(topic, partitions)]
        until = None if seconds is None else time.monotonic() + seconds
        consumer = self._consumer()
        try:
            consumer.assign(places)
            # The first poll opens the partitions; what is appended from here on is seen.
            yield None
            while until is None or time.monotonic() < until:
                messages = consumer.consume(_AT_ONCE, timeout=_POLL_S)
                yield from (_record(message) for message in messages if not _at_end(message))
                yield None
        finally:
            consumer.close()

    def at(self, topic: str, since_ms: int) -> dict[int, int]:
        """Return the first offset of each partition from a time in milliseconds on; 0: the first that there is."""
        bounds = self._bounds(topic, None)
        found = {place.partition: place.offset for place, _ in bounds}
        if since_ms:
            ends = {place.partition: high for place, high in bounds}
            consumer = self._consumer()
            try:
                asked = [TopicPartition(topic, number, since_ms) for number in found]
                for place in consumer.offsets_for_times(asked, timeout=10):
                    found[place.partition] = place.offset if place.offset >= 0 else ends[place.partition]
            finally:
                consumer.close()
        return found

    def tail(self, places: Mapping[tuple[str, int], int]) -> Tail:
        """Open several partitions, each from an offset on, to be read for as long as one likes."""
        return Tail(self._consumer(), places)

    def _bounds(self, topic: str, partitions: Iterable[int] | None) -> list[tuple[TopicPartition, int]]:
        numbers = range(self.partitions(topic)) if partitions is None else partitions
        consumer = self._consumer()
        try:
            found = []
            for number in numbers:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
                found.append((TopicPartition(topic, number, low), high))
            return found
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                # Nothing is ever committed to it; the client insists on a name.
                "group.id": "scrapesaga-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                # Errors come as exceptions with what to do; the client's own log would repeat each attempt.
                "log_level": 0,
                "error_cb": self._complaints.append,
                **self._client,
            }
        )


class Tail:
    """Reads partitions on, through restarts of the broker; in order within each, and in none between them."""

    def __init__(self, consumer: Consumer, places: Mapping[tuple[str, int], int]) -> None:
        self.positions = dict(places)
        """The next offset of each partition."""
        self._consumer = consumer
        consumer.assign([TopicPartition(topic, number, offset) for (topic, number), offset in places.items()])

    def read(self, timeout_s: float) -> list[Record]:
        """Return what came, at most some thousand records; after `timeout_s` nothing. Raises KafkaException."""
        records = []
        for message in self._consumer.consume(_AT_ONCE, timeout=timeout_s):
            place = message.topic() or "", _partition(message)
            if _at_end(message):
                # The end may lie behind the last record: the ones between were removed.
                self.positions[place] = max(self.positions[place], message.offset() or 0)
                continue
            record = _record(message)
            self.positions[place] = record.offset + 1
            records.append(record)
        return records

    def end(self, topic: str, partition: int) -> int:
        """Ask the broker for the present end of a partition. Raises KafkaException."""
        return self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]

    def lag(self) -> int:
        """Return how many records were not read yet, as far as the last fetches told."""
        behind = 0
        for (topic, partition), position in self.positions.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            behind += max(0, high - position)
        return behind

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _partition(message: Message) -> int:
    number = message.partition()
    return -1 if number is None else number


def _at_end(message: Message) -> bool:
    error = message.error()
    if error is None:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    raise KafkaException(error)


def _record(message: Message) -> Record:
    pairs = cast(list[tuple[str, str | bytes | None]], message.headers() or [])
    headers = tuple((name, _bytes(value) or b"") for name, value in pairs)
    return Record(
        topic=message.topic() or "",
        partition=_partition(message),
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=headers,
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
