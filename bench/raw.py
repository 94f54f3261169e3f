"""The raw limit: the messages and bytes that one saga makes, through confluent-kafka alone, on the same broker.

Nothing is decided and nothing waits for anything: what the broker and the best client leave for an engine to reach.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from bench.usage import Usage

PARTITIONS = 8

# Where a part finds how to reach Kafka: a password is nothing for a command line.
_CLIENT = "BENCH_RAW_CLIENT"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one saga costs in messages, measured on the topics of a run."""

    produced: float
    consumed: float
    bytes_produced: float

    @property
    def size(self) -> int:
        """The mean size of a message."""
        return max(1, round(self.bytes_produced / self.produced))


def measure(
    client: Mapping[str, str], broker_pid: int, traffic: Traffic, sagas: int, name: str
) -> tuple[float, dict[str, float]]:
    """Produce and consume what `sagas` sagas would; return sagas a second and CPU-ms a saga by process.

    Producer and consumer are processes of their own and run at the same time.
    """
    admin = AdminClient({**client, "log_level": 0})
    for made in admin.create_topics([NewTopic(name, PARTITIONS)]).values():
        made.result(20)
    produced, consumed = round(sagas * traffic.produced), round(sagas * traffic.consumed)
    before = Usage.of({"broker": broker_pid})
    began = time.perf_counter()
    arguments = [name, str(traffic.size)]
    parts = {
        part: subprocess.Popen(
            [sys.executable, "-m", "bench.raw", part, str(count), *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, _CLIENT: json.dumps(dict(client))},
        )
        for part, count in (("produce", produced), ("consume", consumed))
    }
    used = {}
    took = 0.0
    for part, process in parts.items():
        out, _ = process.communicate(timeout=300)
        if process.returncode:
            raise RuntimeError(f"the raw {part} run failed")
        seconds, cpu_s = map(float, out.split())
        took = max(took, seconds)
        used[part] = cpu_s * 1000 / sagas
    used["broker"] = Usage.of({"broker": broker_pid}).since(before)["broker"] / sagas
    if took <= 0 or took > time.perf_counter() - began:
        raise RuntimeError("the raw run measured nothing")
    return sagas / took, used


def _produce(count: int, client: Mapping[str, str], topic: str, size: int) -> None:
    producer = Producer(
        {
            **client,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 100_000,
            "batch.size": 512 * 1024,
        }
    )
    value, key = b"x" * size, b"job-000000000000"
    for number in range(count):
        while True:
            try:
                producer.produce(topic, value, key, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.01)
        if not number % 1000:
            producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("not everything was acknowledged")


def _consume(count: int, client: Mapping[str, str], topic: str) -> None:
    consumer = Consumer({**client, "group.id": "bench-raw", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
    seen, give_up = 0, time.monotonic() + 240
    while seen < count and time.monotonic() < give_up:
        seen += sum(message.error() is None for message in consumer.consume(5000, timeout=0.5))
    consumer.close()
    if seen < count:
        raise RuntimeError(f"only {seen} of {count} messages came")


def main() -> None:
    """Run one part; print seconds and CPU seconds."""
    part, count, topic, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    client = json.loads(os.environ[_CLIENT])
    began, cpu = time.perf_counter(), time.process_time()
    if part == "produce":
        _produce(count, client, topic, size)
    else:
        _consume(count, client, topic)
    print(time.perf_counter() - began, time.process_time() - cpu)


if __name__ == "__main__":
    main()
