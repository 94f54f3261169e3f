"""S5: many sagas that wait on timers. What each costs in memory, whether an event costs more among many, and how long a
coordinator that was killed needs to come back.

The waiting sagas are written to the saga log as the coordinator writes them, by the rules and the encoder of the engine,
but not through it: a million would take ten minutes. All that is measured is done by the real processes.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from bench.engine import PIPELINE, BenchEngine
from bench.load import Offsets, request
from bench.rows import ResultRow
from processors.kafka.partitioner import partition_for
from processors.local.kafka import EmbeddedKafka
from processors.messages.scrape_request import content_hash, read_request
from processors.messages.wire import encode_event, encode_saga
from processors.saga.events import Failed, Submitted, Succeeded
from processors.saga.plan import Plan
from processors.saga.protocol import advance
from processors.saga.state import Origin, Saga
from processors.step import StepOutput
from topics.catalogue import DEFAULT_STEPS

NAME = "scrapesaga"
#: Sagas that are woken to see what an event costs; the same number at each size.
WOKEN = 2_000
_RETRY_AFTER_MS = 3_600_000
_IDLE_S = 5.0
_GIVE_UP_S = 240.0


def measure(broker: EmbeddedKafka, folder: Path, waiting: int, store: str, empty_mb: float | None) -> ResultRow:
    """One size and one store; `empty_mb` is what a coordinator without sagas takes, None to measure that."""
    settings = {"SCRAPESAGA_TOPIC_PREFIX": f"s5-{store}-{waiting}", "SCRAPESAGA_STORE": store}
    engine = BenchEngine(folder / f"{store}-{waiting}", layout="two", settings=settings, broker=broker)
    engine.prepare()
    sagas = waiting_saga(engine.plan())
    fill(engine, sagas, waiting)
    with engine:
        run = _Waiting(engine, sagas, waiting)
        memory = run.memory_mb()
        if empty_mb is None:
            return ResultRow(NAME, "S5", rss_mb=memory)
        more = {
            "bytes_a_saga": (memory - empty_mb) * 1e6 / waiting,
            "idle_cpu_percent": run.idle_percent(),
            "cpu_us_an_event": run.wake_some(),
            "recovery_s": run.kill_and_recover(),
        }
    return ResultRow(
        NAME,
        f"S5 {waiting:,} {store}",
        rss_mb=memory,
        settings={"waiting": waiting, "store": store, "woken": WOKEN},
        more=more,
    )


def waiting_saga(plan: Plan) -> Saga:
    """A saga whose first step is to be tried again in an hour, as the rules make it."""
    job_id = "s5-0000000"
    asked = read_request(request(job_id, 0), None)
    payload = msgspec.json.encode(asked.payload)
    now = int(time.time() * 1000)
    content = content_hash(PIPELINE, asked.url, payload)
    begun = advance(None, 0, Submitted(job_id, plan, asked.url, payload, content, Origin(0, 0)), now).saga
    if begun is None:
        raise RuntimeError("a submission must begin a saga")
    failed = Failed(
        job_id,
        begun.run,
        begun.at,
        begun.seq,
        "come back later",
        retryable=True,
        retry_after_ms=_RETRY_AFTER_MS,
    )
    waits = advance(begun, 1, failed, now).saga
    if waits is None or not waits.due_ms:
        raise RuntimeError("a failure that may be retried must arm a timer")
    # Before every event that the inbox of this installation will ever hold.
    return msgspec.structs.replace(waits, offset=-1)


def _job_id(number: int) -> str:
    return f"s5-{number:07d}"


def _numbered(saga: Saga, number: int) -> Saga:
    """One of the waiting sagas. Each has a seq of its own, as in production: Python shares small numbers, and keeps others."""
    job_id = _job_id(number)
    return msgspec.structs.replace(
        saga,
        seq=saga.seq + number,
        due_ms=saga.due_ms + number,
        job_id=job_id,
        url=f"https://shop.example/{job_id}",
    )


def fill(engine: BenchEngine, saga: Saga, waiting: int) -> None:
    """Write the states of all waiting sagas to the saga log."""
    producer = Producer(
        {
            **engine.kafka.client,
            "linger.ms": 50,
            "queue.buffering.max.messages": 100_000,
            "log_level": 0,
        }
    )
    topic, partitions = engine.topic("sagas"), engine.settings().partitions
    for number in range(waiting):
        key = _job_id(number).encode()
        value = encode_saga(_numbered(saga, number))
        while True:
            try:
                producer.produce(topic, value, key, partition=partition_for(key, partitions))
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(120):
        raise RuntimeError("the saga log could not be filled")


class _Waiting:
    """A running engine with waiting sagas."""

    def __init__(self, engine: BenchEngine, saga: Saga, waiting: int) -> None:
        self._engine = engine
        self._saga = saga
        self._waiting = waiting
        self._offsets = Offsets(engine.kafka.client, engine.settings().partitions)

    def memory_mb(self) -> float:
        """Resident memory of the coordinator."""
        return self._engine.usage().rss["coordinator"]

    def idle_percent(self) -> float:
        """CPU of the coordinator while nothing happens."""
        before = self._engine.usage()
        time.sleep(_IDLE_S)
        return self._engine.usage().since(before)["coordinator"] / _IDLE_S / 10

    def wake_some(self) -> float:
        """Let some of the waiting sagas go on to their end; CPU of the coordinator in microseconds an event.

        Each is woken by an answer of its first step, and its other four steps run: five events a saga.
        """
        engine = self._engine
        results = engine.topic(f"{DEFAULT_STEPS[-1]}.results")
        before, done = engine.usage(), self._offsets.count(results)
        producer = Producer({**engine.kafka.client, "log_level": 0})
        for key, value, partition in self._answers(engine.settings().partitions):
            producer.produce(engine.topic("events"), value, key, partition=partition)
        producer.flush(30)
        give_up = time.monotonic() + _GIVE_UP_S
        while self._offsets.count(results) - done < WOKEN:
            if time.monotonic() > give_up:
                raise TimeoutError("the woken sagas did not end")
            time.sleep(0.05)
        used = engine.usage().since(before)["coordinator"]
        return used * 1000 / (WOKEN * len(DEFAULT_STEPS))

    def _answers(self, partitions: int) -> Iterator[tuple[bytes, bytes, int]]:
        output = msgspec.json.encode(StepOutput(data={"text": "x" * 360}))
        saga = self._saga
        for number in random.Random(1).sample(range(self._waiting), WOKEN):
            job_id = _job_id(number)
            key = job_id.encode()
            value = encode_event(Succeeded(job_id, saga.run, saga.at, saga.seq + number - 1, output), attempt=1)
            yield key, value, partition_for(key, partitions)

    def kill_and_recover(self) -> float:
        """Kill the coordinator; seconds until its successor has restored every partition."""
        supervisor = self._engine.supervisor
        pid = supervisor.pids()["coordinator"]
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while supervisor.pids().get("coordinator") in (None, pid):
            time.sleep(0.01)
        self._engine.wait_until_ready(_GIVE_UP_S)
        return time.monotonic() - began


def rows(broker: EmbeddedKafka, folder: Path, sizes: list[int], stores: list[str]) -> Iterator[ResultRow]:
    """Every size with every store."""
    for store in stores:
        empty = measure(broker, folder, 0, store, None).rss_mb
        for waiting in sizes:
            yield measure(broker, folder, waiting, store, empty)
