"""Submits jobs as a client would and finds out from the topics what became of them, by the broker's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not listed in its __all__

from bench.steps import FAILS_AT, PAYLOAD_BYTES
from processors.kafka.reader import Reader
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.saga_table.changelog import peek
from schemas.codec import schema_of

PHASES: Sequence[str] = tuple(
    next(one["type"]["symbols"] for one in schema_of("saga_state")["fields"] if one["name"] == "phase")
)
_ENDED = {PHASES.index("COMPLETED"), PHASES.index("COMPENSATED"), PHASES.index("PARKED")}


def request(job_id: str, number: int, fails_at: str = "") -> bytes:
    """The bytes of one submission: a URL and ~400 bytes of payload."""
    payload: dict[str, object] = {"number": number, "text": "x" * (PAYLOAD_BYTES - 40)}
    if fails_at:
        payload[FAILS_AT] = fails_at
    return encode_request(ScrapeRequest(url=f"https://shop.example/{job_id}", job_id=job_id, payload=payload))


class Offsets:
    """How many records topics hold, asked from the broker in one cheap request."""

    def __init__(self, client: Mapping[str, str], partitions: int) -> None:
        self._admin = AdminClient({**client, "log_level": 0})
        self._partitions = partitions

    def count(self, *topics: str) -> int:
        """The sum of the end offsets of all partitions."""
        asked = {TopicPartition(topic, n): OffsetSpec.latest() for topic in topics for n in range(self._partitions)}
        return sum(found.result(10).offset for found in self._admin.list_offsets(asked).values())


@dataclass(slots=True)
class LoadResult:
    """What the topics say of a set of jobs; times are milliseconds of the broker's clock."""

    submitted_ms: int = 0
    ended_ms: dict[str, int] = field(default_factory=dict)
    phases: dict[str, str] = field(default_factory=dict)
    states: int = 0

    def count(self, phase: str) -> int:
        """How many jobs are in a phase."""
        return sum(one == phase for one in self.phases.values())

    @property
    def seconds(self) -> float:
        """From the first submission in Kafka to the last ended state in Kafka."""
        return (max(self.ended_ms.values()) - self.submitted_ms) / 1000

    @property
    def longest_gap_s(self) -> float:
        """The longest time in which no saga ended."""
        times = sorted(self.ended_ms.values())
        return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0) / 1000


def submit(
    client: Mapping[str, str],
    topic: str,
    jobs: Sequence[tuple[str, bytes]],
    *,
    in_flight: int,
    finished: Callable[[], int],
    give_up_s: float,
    meanwhile: Callable[[int], None] = lambda done: None,
) -> None:
    """Submit all jobs, never with more than `in_flight` unfinished; return once `finished` says that all are.

    `meanwhile` is called with the number of finished jobs at each turn.
    """
    producer = Producer({**client, "acks": "all", "linger.ms": 5, "log_level": 0})
    sent = done = 0
    give_up = time.monotonic() + give_up_s
    while done < len(jobs):
        for job_id, value in jobs[sent : done + in_flight]:
            producer.produce(topic, value, key=job_id)
            sent += 1
            if not sent % 1000:
                producer.poll(0)
        producer.poll(0)
        time.sleep(0.05)
        done = finished()
        meanwhile(done)
        if time.monotonic() > give_up:
            raise TimeoutError(f"{done} of {len(jobs)} jobs were done within {give_up_s:.0f} s")
    producer.flush(30)


def outcome(
    client: Mapping[str, str], urls: str, sagas: str, prefix: str, jobs: int, *, give_up_s: float = 60.0
) -> LoadResult:
    """Read the topics until every job whose id begins with `prefix` has ended, and tell how."""
    reader = Reader(client)
    found = LoadResult()
    found.submitted_ms = min(
        record.timestamp_ms for record in reader.records(urls) if (record.key or b"").startswith(prefix.encode())
    )
    give_up = time.monotonic() + give_up_s
    while True:
        found.states = 0
        for record in reader.records(sagas):
            key = (record.key or b"").decode()
            if not key.startswith(prefix) or record.value is None:
                continue
            phase = peek(record.value)[2]
            found.states += 1
            found.phases[key] = PHASES[phase]
            if phase in _ENDED:
                found.ended_ms.setdefault(key, record.timestamp_ms)
        if len(found.ended_ms) >= jobs:
            return found
        if time.monotonic() > give_up:
            raise TimeoutError(f"{len(found.ended_ms)} of {jobs} sagas have ended within {give_up_s:.0f} s")
        time.sleep(0.1)


class StateFollower:
    """Waits for the end of single sagas, as a client that follows the status stream sees it."""

    def __init__(self, client: Mapping[str, str], sagas: str, partitions: int) -> None:
        self._consumer = Consumer(
            {
                **client,
                "group.id": "bench-follower",
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "fetch.wait.max.ms": 500,
                "log_level": 0,
            }
        )
        self._producer = Producer({**client, "acks": "all", "linger.ms": 0, "log_level": 0})
        places = [TopicPartition(sagas, n) for n in range(partitions)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)
        self._consumer.poll(0.5)

    def time_one(self, topic: str, job_id: str, value: bytes, within_s: float = 60.0) -> float:
        """Submit one job; return the milliseconds until its ended state is read."""
        began = time.perf_counter()
        self._producer.produce(topic, value, key=job_id)
        self._producer.poll(0)
        while time.perf_counter() - began < within_s:
            for message in self._consumer.consume(1, timeout=1.0):
                if message.error() is None and message.key() == job_id.encode():
                    value_read = message.value()
                    if value_read is not None and peek(value_read)[2] in _ENDED:
                        return (time.perf_counter() - began) * 1000
        raise TimeoutError(f"{job_id} has not ended within {within_s:.0f} s")

    def close(self) -> None:
        """Give the connections back."""
        self._producer.flush(5)
        self._consumer.close()
