"""Measure the transport: pass-through rate and CPU, and the latency of one record at a time.

    python bench/transport.py [--events 100000] [--partitions 8]

Starts an embedded Kafka. CPU is that of the copying process alone, in microseconds an event. A hop is a record's way from
send() to the agent of another process's topic, its acknowledgement included; a round trip is two hops.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import quantiles
from typing import Any

from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from processors.kafka.producer import Outgoing, Producer
from processors.local.kafka import EmbeddedKafka
from processors.transport.app import create_faust_app, raw_topic, run_apps
from processors.transport.batches import batches

VALUE = os.urandom(400)
TRIPS = 500
# A JVM that has just started compiles what it runs, on the cores that are measured.
WARM_UP_TRIPS = 3_000


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        measure = copy_events if options.part == "copy" else measure_trips
        sys.exit(measure(options.bootstrap, options.events, options.partitions))
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder), fast_start=False, login=False) as broker:
        for part in ("copy", "trips"):
            command = [sys.executable, __file__, "--part", part]
            command += ["--bootstrap", broker.bootstrap_servers, "--partitions", str(options.partitions)]
            subprocess.run([*command, "--events", str(options.events)], check=True)


def create(bootstrap: str, partitions: int) -> tuple[str, str]:
    """Make two topics."""
    names = (f"in-{uuid.uuid4().hex[:8]}", f"out-{uuid.uuid4().hex[:8]}")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(name, partitions) for name in names]).values():
        made.result(20)
    return names


def copy_events(bootstrap: str, events: int, partitions: int) -> int:
    """Copy `events` records from one topic to another and report rate and CPU from the first to the last."""
    source, sink = create(bootstrap, partitions)
    confluent = ConfluentProducer(
        {"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 2_000_000}
    )
    for number in range(events):
        confluent.produce(source, VALUE, key=b"0123456789abcdef", partition=number % partitions)
    confluent.flush()
    app = create_faust_app(source, bootstrap_servers=bootstrap, data_dir=Path(tempfile.mkdtemp()), client_id="bench")
    producer = Producer(bootstrap)
    end = asyncio.Event()
    report: list[str] = []

    @app.agent(raw_topic(app, source))
    async def copier(stream: Any) -> None:
        copied = turns = 0
        began = cpu = 0.0
        async for batch in batches(stream):
            if not copied:
                began, cpu = time.perf_counter(), time.process_time()
            await producer.send([Outgoing(sink, r.partition, r.key, r.value) for r in batch.records])
            batch.done()
            copied += len(batch)
            turns += 1
            if copied == events:
                took, used = time.perf_counter() - began, time.process_time() - cpu
                report.append(
                    f"pass-through {events / took:8,.0f} events/s {used / events * 1e6:6.1f} us CPU an event, "
                    f"{events / turns:,.0f} records a batch"
                )
                end.set()

    return run(app, producer, end, report)


def measure_trips(bootstrap: str, events: int, partitions: int) -> int:
    """Send one record after another through two agents and report the time of the round trip."""
    there, back = create(bootstrap, partitions)
    app = create_faust_app(there, bootstrap_servers=bootstrap, data_dir=Path(tempfile.mkdtemp()), client_id="bench")
    producer = Producer(bootstrap)
    end = asyncio.Event()
    returned: asyncio.Queue[float] = asyncio.Queue()
    report: list[str] = []

    @app.agent(raw_topic(app, there))
    async def answer(stream: Any) -> None:
        async for batch in batches(stream):
            await producer.send([Outgoing(back, r.partition, r.key, r.value) for r in batch.records])
            batch.done()

    @app.agent(raw_topic(app, back))
    async def receive(stream: Any) -> None:
        async for batch in batches(stream):
            for _ in batch.records:
                returned.put_nowait(time.perf_counter())
            batch.done()

    async def send() -> None:
        trips: list[float] = []
        cpu = time.process_time()
        for number in range(-WARM_UP_TRIPS, TRIPS):
            if not number:
                trips, cpu = [], time.process_time()
            began = time.perf_counter()
            await producer.send([Outgoing(there, number % partitions, b"key", VALUE)])
            trips.append((await returned.get() - began) * 1000)
        cuts = quantiles(trips, n=100)
        used_us = (time.process_time() - cpu) / TRIPS * 1e6
        report.append(
            f"round trip of 2 hops: p50 {cuts[49]:.2f} ms, p90 {cuts[89]:.2f}, p99 {cuts[98]:.2f}, "
            f"{used_us:,.0f} us CPU"
        )
        end.set()

    return run(app, producer, end, report, send)


def run(app: Any, producer: Producer, end: asyncio.Event, report: list[str], then: Any = None) -> int:
    """Run until `end` is set."""
    tasks: list[asyncio.Task[None]] = []

    async def stop_at_end() -> None:
        await end.wait()
        os.kill(os.getpid(), 15)

    async def begin() -> None:
        tasks.append(asyncio.create_task(stop_at_end()))
        if then is not None:
            tasks.append(asyncio.create_task(then()))

    code = run_apps([app], resources=[producer], on_ready=begin)
    print(*report, sep="\n", flush=True)
    return code


if __name__ == "__main__":
    main()
