"""A broker, topics and copier processes for the tests of the transport."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return once the condition holds; fail if it doesn't in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} took over {seconds} s"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Copy:
    """A record of the sink."""

    partition: int
    offset: int
    value: bytes
    pid: int


class World:
    """Names and clients of one test."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        unique = uuid.uuid4().hex[:8]
        self.source, self.sink, self.group = f"source-{unique}", f"sink-{unique}", f"group-{unique}"
        self._copiers: list[Copier] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for copier in self._copiers:
            copier.end()

    def create(self, partitions: int, **config: str) -> None:
        """Make source and sink."""
        topics = [NewTopic(name, partitions, config=config) for name in (self.source, self.sink)]
        # Not kept longer: the client may crash when its broker restarts.
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for made in admin.create_topics(topics).values():
            made.result(20)

    def produce(self, values: Iterable[tuple[int, bytes]]) -> None:
        """Produce (partition, value) pairs to the source."""
        # Idempotent: several requests are under way at once, and a retry of the first (a new topic's leader isn't known
        # everywhere yet) would put it behind the others. Tests of order would see the producer's disorder as ours.
        config: dict[str, str | int | bool] = {"bootstrap.servers": self.bootstrap, "acks": "all", "linger.ms": 5}
        producer = Producer({**config, "enable.idempotence": True})
        for partition, value in values:
            producer.produce(self.source, value, key=b"k", partition=partition)
            producer.poll(0)
        assert producer.flush(30) == 0

    def copier(self, *options: str) -> Copier:
        """Start a process that copies from source to sink."""
        copier = Copier(self, options)
        self._copiers.append(copier)
        return copier

    def committed(self, partitions: int) -> list[int]:
        """The committed offset of each partition of the source; -1001 if there is none."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        tps = [TopicPartition(self.source, partition) for partition in range(partitions)]
        give_up = time.monotonic() + 20
        try:
            while True:
                try:
                    return [tp.offset for tp in consumer.committed(tps, timeout=20)]
                except KafkaException as error:
                    # A broker that just started loads its groups first.
                    if "COORDINATOR" not in error.args[0].name() or time.monotonic() > give_up:
                        raise
                    time.sleep(0.1)
        finally:
            consumer.close()

    def copies(self, partitions: int) -> list[Copy]:
        """Everything in the sink, in order within each partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.auto.commit": False})
        found: list[Copy] = []
        try:
            ends = {}
            for partition in range(partitions):
                low, high = consumer.get_watermark_offsets(TopicPartition(self.sink, partition), timeout=20)
                if high > low:
                    ends[partition] = high
            consumer.assign([TopicPartition(self.sink, partition, 0) for partition in ends])
            while ends:
                for message in consumer.consume(1_000, timeout=0.2):
                    assert message.error() is None, message.error()
                    where, offset = message.partition(), message.offset()
                    assert where is not None
                    assert offset is not None
                    headers = dict(message.headers() or [])
                    found.append(Copy(where, offset, message.value() or b"", int(headers["pid"] or b"0")))
                    if offset + 1 >= ends.get(where, 0):
                        ends.pop(where, None)
        finally:
            consumer.close()
        return found


class Copier:
    """A copier process."""

    def __init__(self, world: World, options: Sequence[str]) -> None:
        names = {"bootstrap": world.bootstrap, "group": world.group}
        names |= {"source": world.source, "sink": world.sink}
        command = [sys.executable, "-m", "tests.broker.transport_child"]
        command += [f"--{name}={value}" for name, value in names.items()]
        self.process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def until(self, word: str, *, seconds: float = 30) -> None:
        """Return once the process has said a line that starts with the word."""

        def said() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {''.join(self.errors[-30:])}"
            return any(line.startswith(word) for line in self.lines)

        wait_for(said, seconds=seconds, what=f"{word!r} of the copier")

    def wait(self, *, seconds: float = 30) -> int:
        """The exit code, once the process ended unexpectedly."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.wait()

    def end(self) -> None:
        """End the process, if a failed test left it behind."""
        if self.process.poll() is None:
            self.kill()

    @staticmethod
    def _read(source: Iterable[str], lines: list[str]) -> None:
        lines.extend(iter(source))
