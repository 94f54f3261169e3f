"""Reads topics from outside any consumer group: bounded, followed, from the end backwards, or in bulk. Nothing is committed.

This is the one reader of the project: the operations of operators, the auditor, steps' logs and claim checks, and the
restore of the saga table all read through it. Partitions are assigned by hand, so no reader of the engine's own is disturbed.

It blocks: call it from a thread where an event loop runs. One thread at a time may use a reader.

Offsets are not records: the markers of transactions and what compaction removed leave holes, at the end of a partition too.
So the end of a read is a position, never the offset of a last record, and what was aborted is nobody's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from processors.errors import ConfigurationError
from processors.kafka.message_run import MessageRun, Place, ReadFailed, ReadInterrupted, at_hand, in_runs, record_of
from processors.kafka.partitioner import partition_for
from processors.kafka.record import Record
from processors.kafka.tail import ANSWERED_WITHIN_S, POLL_S, SILENCE_S, Tail

__all__ = ["Bounds", "Place", "ReadFailed", "ReadInterrupted", "Reader", "Tail", "TopicMissing"]

_CONNECTED_WITHIN_S = 10.0
_PATIENCE_S = 1.0
# Waiting cannot mend these: the broker is there and said no.
_FINAL = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_LEADS_SOON = (
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
)
# How long a fetch waits at the broker for something new. The next read of a connection stands behind the fetch that is under
# way: one that waits at an end for nothing would make each of an operation's reads so much longer.
_BOUNDED_WAIT_MS, _FOLLOW_WAIT_MS = 5, 500
# From the end backwards: the first look is one fetch, later ones grow up to some megabytes.
_FIRST_CHUNK = 1_024
_LAST_CHUNK = 16_384


class TopicMissing(ConfigurationError):
    """A topic that the engine declares isn't on the broker."""

    def __init__(self, topic: str, servers: str) -> None:
        super().__init__(
            f"topic {topic} doesn't exist on Kafka at {servers}; "
            "see SCRAPESAGA_TOPIC_PREFIX, or run `scrapesaga topics apply`"
        )


class Bounds(NamedTuple):
    """The first offset that a partition still has, and the one up to which it can be read now."""

    first: int
    end: int


class Reader:
    """Reads topics with the settings of a confluent client.

    `isolation` is read_committed but for who says why not; `lost` says what happens where an offset is gone: go on at the
    "earliest" record that is left, or "error". Raises KafkaException if Kafka can't be reached, ReadFailed if it falls
    silent for `silence_s`, ReadInterrupted once `stopped` is set.
    """

    def __init__(
        self,
        client: Mapping[str, str | int | bool],
        *,
        isolation: str = "read_committed",
        lost: str = "earliest",
        silence_s: float = SILENCE_S,
        stopped: threading.Event | None = None,
    ) -> None:
        self._client = dict(client)
        self._isolation = isolation
        self._lost = lost
        self._silence_s = silence_s
        self.stopped = stopped or threading.Event()
        """Set it, from any thread, and whoever reads raises ReadInterrupted within a moment."""
        self._counts: dict[str, int] | None = None
        self._complaints: deque[KafkaError] = deque(maxlen=16)
        # A connection costs as much as reading ten thousand records: one that has done its work does the next.
        self._idle: deque[Consumer] = deque()

    @property
    def servers(self) -> str:
        """Where Kafka is."""
        return str(self._client["bootstrap.servers"])

    def close(self) -> None:
        """Give the connections back."""
        while self._idle:
            self._idle.pop().close()

    # --- what there is ------------------------------------------------------------------------------------------------

    def topics(self) -> Mapping[str, int]:
        """Return the number of partitions of every topic on the broker; asked once."""
        if self._counts is None:
            consumer = self._borrow()
            try:
                self._counts = self._ask_for_topics(consumer)
            finally:
                self._idle.append(consumer)
        return self._counts

    def refresh(self) -> None:
        """Ask anew, when they are asked for, which topics there are."""
        self._counts = None

    def _ask_for_topics(self, consumer: Consumer) -> dict[str, int]:
        """Ask until Kafka answers; at once no longer when it refuses the login or the certificate."""
        give_up = time.monotonic() + _CONNECTED_WITHIN_S
        while True:
            try:
                found = consumer.list_topics(timeout=_PATIENCE_S).topics
                return {name: len(about.partitions) for name, about in found.items()}
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

    def partition_of(self, topic: str, key: str) -> int:
        """Return the partition that a key has in a topic."""
        return partition_for(key.encode(), self.partitions(topic))

    def places(self, topics: Iterable[str], partitions: Iterable[int] | None = None) -> list[Place]:
        """Return all partitions of some topics, or the same ones of each. Raises TopicMissing."""
        numbers = None if partitions is None else list(partitions)
        return [
            (topic, number)
            for topic in topics
            for number in (range(self.partitions(topic)) if numbers is None else numbers)
        ]

    def bounds(self, places: Iterable[Place]) -> dict[Place, Bounds]:
        """Return where partitions begin and end now."""
        asked = list(places)
        first, end = self._offsets(asked, OFFSET_BEGINNING), self._offsets(asked, OFFSET_END)
        return {place: Bounds(first[place], end[place]) for place in asked}

    def starts(self, places: Iterable[Place], since_ms: int) -> dict[Place, int]:
        """Return the first offsets from a time in milliseconds on; 0: the first that there are."""
        asked = list(places)
        if not since_ms:
            return self._offsets(asked, OFFSET_BEGINNING)
        found = self._offsets(asked, since_ms)
        late = [place for place, offset in found.items() if offset < 0]
        return {**found, **(self._offsets(late, OFFSET_END) if late else {})}

    def at(self, topic: str, since_ms: int) -> dict[int, int]:
        """Return the first offset of each partition of a topic from a time on; 0: the first that there is."""
        return {number: offset for (_, number), offset in self.starts(self.places([topic]), since_ms).items()}

    def _offsets(self, places: list[Place], when: int) -> dict[Place, int]:
        """Ask where partitions are at a time, in one request a broker; -1: no record is that young."""
        if not places:
            return {}
        consumer = self._borrow()
        give_up = time.monotonic() + ANSWERED_WITHIN_S
        try:
            while True:
                try:
                    return _answered(consumer, places, when)
                except KafkaException as error:
                    # A broker that has just started leads its partitions a moment after it says so.
                    if error.args[0].code() not in _LEADS_SOON or time.monotonic() > give_up:
                        raise
                    self.stopped.wait(POLL_S)
        finally:
            self._idle.append(consumer)

    # --- bounded reads ------------------------------------------------------------------------------------------------

    def runs(self, starts: Mapping[Place, int], ends: Mapping[Place, int] | None = None) -> Iterator[MessageRun]:
        """Yield the messages from some offsets to the present end, or to `ends`, in order within each partition.

        Each partition that has something to read ends with a run, perhaps empty, that says so.
        """
        open_ = {place for place, offset in starts.items() if ends is None or offset < ends[place]}
        if not open_:
            return
        consumer = self._borrow()
        consumer.assign([TopicPartition(*place, starts[place]) for place in sorted(open_)])
        try:
            heard = time.monotonic()
            while open_:
                if self.stopped.is_set():
                    raise ReadInterrupted("The read was interrupted.")
                messages = at_hand(consumer, POLL_S)
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._silence_s:
                    names = ", ".join(f"{topic}-{number}" for topic, number in sorted(open_))
                    raise ReadFailed(f"Kafka at {self.servers} sent nothing of {names} for {self._silence_s:.0f} s.")
                for run in in_runs(messages, open_, ends):
                    if run.ended:
                        open_.discard(run.place)
                        consumer.pause([TopicPartition(*run.place)])
                    yield run
        finally:
            # A partition that is left paused stays so when it is assigned the next time.
            consumer.resume([TopicPartition(*place) for place in starts])
            consumer.unassign()
            self._idle.append(consumer)

    def read(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], *, key: bytes | None = None
    ) -> Iterator[Record]:
        """Yield the records between offsets, in order per partition; of one key alone if one is given."""
        for run in self.runs(starts, ends):
            for message in run.messages:
                # Most of what is read to find one key is another's: it isn't made a record.
                if key is None or message.key() == key:
                    yield record_of(message)

    def records(
        self,
        topic: str,
        partitions: Iterable[int] | None = None,
        *,
        offset: int = 0,
        since_ms: int = 0,
        key: bytes | None = None,
    ) -> Iterator[Record]:
        """Yield the records from an offset or a time in milliseconds to the present end, in order per partition."""
        places = self.places([topic], partitions)
        ends = {place: bounds.end for place, bounds in self.bounds(places).items()}
        starts = {place: max(first, offset) for place, first in self.starts(places, since_ms).items()}
        yield from self.read(starts, ends, key=key)

    def backwards(self, place: Place) -> Iterator[list[Record]]:
        """Yield a partition from its end to its beginning in growing chunks; the records within each in their order."""
        first, end = self.bounds([place])[place]
        size = _FIRST_CHUNK
        while end > first:
            start = max(first, end - size)
            yield list(self.read({place: start}, {place: end}))
            end, size = start, min(2 * size, _LAST_CHUNK)

    def one(self, place: Place, offset: int) -> Record | None:
        """Return the record at an offset; None if there is none.

        Kafka itself answers with the next record where that one was compacted away, and with the first of the partition
        where the offset lies behind its end.
        """
        bounds = self.bounds([place])[place]
        if not bounds.first <= offset < bounds.end:
            return None
        return next((one for one in self.read({place: offset}, {place: offset + 1})), None)

    # --- following ----------------------------------------------------------------------------------------------------

    def follow(
        self, topic: str, seconds: float | None, partitions: Iterable[int] | None = None
    ) -> Iterator[Record | None]:
        """Yield what is appended from now on, for some seconds or for ever; None when nothing came for a moment.

        The first None says that the partitions are open: what is appended from then on is seen.
        """
        until = None if seconds is None else time.monotonic() + seconds
        ends = self.bounds(self.places([topic], partitions))
        tail = self.tail({place: bounds.end for place, bounds in ends.items()})
        try:
            yield None
            while until is None or time.monotonic() < until:
                yield from tail.read(POLL_S)
                yield None
        finally:
            tail.close()

    def tail(self, places: Mapping[Place, int]) -> Tail:
        """Open several partitions, each from an offset on, to be read for as long as one likes."""
        return Tail(self._connect(_FOLLOW_WAIT_MS), places, self.stopped)

    # --- connections --------------------------------------------------------------------------------------------------

    def _borrow(self) -> Consumer:
        return self._idle.pop() if self._idle else self._connect(_BOUNDED_WAIT_MS)

    def _connect(self, fetch_wait_ms: int) -> Consumer:
        return Consumer(
            {
                # Nothing is ever committed to it; the client insists on a name.
                "group.id": "scrapesaga-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": self._lost,
                # The end is where the broker says so: the offset before it may hold a marker, or nothing any more.
                "enable.partition.eof": True,
                "isolation.level": self._isolation,
                "fetch.wait.max.ms": fetch_wait_ms,
                # A second by default, in which a partition that was read faster than it came stands still.
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 16 * 1024,
                # Errors come as exceptions with what to do; the client's own log would repeat each attempt.
                "log_level": 0,
                "error_cb": self._complaints.append,
                **self._client,
            }
        )


def _answered(consumer: Consumer, places: list[Place], when: int) -> dict[Place, int]:
    asked = [TopicPartition(topic, number, when) for topic, number in places]
    answers = consumer.offsets_for_times(asked, timeout=ANSWERED_WITHIN_S)
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {(answer.topic, answer.partition): answer.offset for answer in answers}
