"""Keeps a number of jobs under way: submits, repeats submissions, cancels, and follows how the jobs end."""

from __future__ import annotations

import threading
import time
import uuid
from random import Random

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from processors.demo.sample_servers import SampleServers
from processors.errors import BadRecord
from processors.kafka.partitioner import partition_for
from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.messages.scrape_request import ScrapeRequest, canonical_url, derived_job_id, encode_request
from processors.messages.wire import decode_saga_fields, encode_event
from processors.saga.events import Cancelled
from processors.saga.state import ENDED, Phase

SHARE_REPEATED, SHARE_CANCELLED = 0.1, 0.05
_TURN_S = 0.2


class Load:
    """A thread that submits the shop's products, one job each, never more under way than `in_flight`."""

    def __init__(self, engine: LocalEngine, world: SampleServers, pipeline: str, *, seed: int, in_flight: int) -> None:
        self.accepted: dict[str, str] = {}
        """job_id -> how the shop and the API make it end: "completed" or "compensated"."""
        self.cancelled: set[str] = set()
        self.repeats = 0
        self.phases: dict[str, Phase] = {}
        self._seqs: dict[str, int] = {}
        self._world = world
        self._pipeline = pipeline
        self._rng = Random(seed)
        self._in_flight = in_flight
        self._prefix = engine.settings().topic_prefix
        self._client = engine.client
        self._failed: list[object] = []
        self._submitting = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin to submit."""
        self._submitting.set()
        self._thread.start()

    def stop_submitting(self) -> None:
        """Submit no more; jobs are still followed."""
        self._submitting.clear()

    def close(self) -> None:
        """End the thread. Raises KafkaException if a submission was refused: then it isn't known what was accepted."""
        self._closing.set()
        self._thread.join(60)
        if self._failed:
            raise KafkaException(self._failed[0])

    def open_jobs(self) -> list[str]:
        """Return the jobs that have not ended."""
        return [job for job in [*self.accepted] if self.phases.get(job) not in ENDED]

    def parked_jobs(self) -> list[str]:
        """Return the jobs that wait for a person."""
        return [job for job, phase in [*self.phases.items()] if phase is Phase.PARKED]

    def _run(self) -> None:
        producer = Producer(
            {
                **self._client,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        states = self._follower()
        try:
            while not self._closing.is_set():
                self._follow(states)
                if self._submitting.is_set():
                    self._submit(producer)
                producer.poll(0)
                time.sleep(0)
            if left := producer.flush(60):
                self._failed.append(f"{left} submissions were never acknowledged")
        finally:
            states.close()

    def _follower(self) -> Consumer:
        topic = f"{self._prefix}.sagas"
        self._partitions = Reader(self._client).partitions(topic)
        consumer = Consumer(
            {
                **self._client,
                "group.id": "chaos-load",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(topic, number, 0) for number in range(self._partitions)])
        return consumer

    def _follow(self, states: Consumer) -> None:
        for message in states.consume(500, timeout=_TURN_S):
            value = message.value()
            if message.error() is not None or value is None:
                # The broker comes and goes here.
                continue
            try:
                state = decode_saga_fields(value if isinstance(value, bytes) else value.encode())
            except BadRecord:
                continue
            job, seq = str(state["job_id"]), int(state["seq"])
            if seq >= self._seqs.get(job, -1):
                self._seqs[job] = seq
                self.phases[job] = Phase(state["phase"])

    def _submit(self, producer: Producer) -> None:
        for _ in range(min(10, self._in_flight - len(self.open_jobs()))):
            number = len(self.accepted) + 1
            url = self._world.url(number)
            job = derived_job_id(self._pipeline, canonical_url(url))
            self.accepted[job] = self._world.expected(number).outcome
            self._request(producer, url)
            if self._rng.random() < SHARE_REPEATED:
                self.repeats += 1
                self._request(producer, self._world.url(self._rng.randint(1, number)))
            running = [job for job, phase in self.phases.items() if phase is Phase.RUNNING]
            if running and self._rng.random() < SHARE_CANCELLED:
                self._cancel(producer, self._rng.choice(running))

    def _request(self, producer: Producer, url: str) -> None:
        key = uuid.UUID(int=self._rng.getrandbits(128)).bytes if self._rng.random() < 0.5 else None
        request = encode_request(ScrapeRequest(url=url, label="chaos"))
        producer.produce(f"{self._prefix}.urls", request, key, on_delivery=self._delivered)

    def _cancel(self, producer: Producer, job: str) -> None:
        self.cancelled.add(job)
        event = encode_event(Cancelled(job, "chaos", "cancelled by chance"), request_id=uuid.uuid4().hex)
        key = job.encode()
        partition = partition_for(key, self._partitions)
        producer.produce(f"{self._prefix}.events", event, key, partition, on_delivery=self._delivered)

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(error)
