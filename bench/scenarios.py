"""S1 to S4 on a running engine, and the raw limit beside them. Each returns its row, or raises if a saga is missing."""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from statistics import quantiles

from bench import raw
from bench.engine import BenchEngine
from bench.load import LoadResult, Offsets, StateFollower, outcome, request, submit
from bench.rows import ResultRow
from processors.kafka.reader import Reader
from topics.catalogue import DEFAULT_STEPS

NAME = "scrapesaga"
#: As many as the Kafka Streams figure that it is compared with had.
IN_FLIGHT = 4_000
FAILS_EVERY = 5
_GIVE_UP_S = 600.0
_SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class SagaLoad:
    """A number of sagas; `fails_every`: every n-th fails for good in load and is compensated."""

    sagas: int
    fails_every: int = 0
    in_flight: int = IN_FLIGHT

    def fails(self, number: int) -> bool:
        """Whether this saga is made to fail."""
        return bool(self.fails_every) and number % self.fails_every == 0

    @property
    def failing(self) -> int:
        """How many fail."""
        return sum(self.fails(number) for number in range(self.sagas))


class Run:
    """One engine, and what is asked of it again and again."""

    def __init__(self, engine: BenchEngine) -> None:
        self.engine = engine
        self.client = engine.kafka.client
        self.partitions = engine.settings().partitions
        self._offsets = Offsets(self.client, self.partitions)

    def settings(self, load: SagaLoad) -> dict[str, object]:
        """What a row says of how it was made."""
        return {
            "layout": self.engine.layout,
            "partitions": self.partitions,
            "sagas": load.sagas,
            "in_flight": load.in_flight,
            **self.engine.settings_given,
        }

    def carry(self, load: SagaLoad, scenario: str, *, kill_at: int | None = None, warm_up: bool = False) -> ResultRow:
        """Put a load through the engine; kill the coordinator when `kill_at` sagas are done."""
        engine, prefix = self.engine, f"{scenario}-{uuid.uuid4().hex[:6]}-"
        jobs = [
            (job_id, request(job_id, number, "load" if load.fails(number) else ""))
            for number in range(load.sagas)
            for job_id in [f"{prefix}{number:07d}"]
        ]
        results = [engine.topic(f"{step}.results") for step in DEFAULT_STEPS]
        first, last = results[0], results[-1]
        seen_first, seen_last = self._offsets.count(first), self._offsets.count(last)
        killed_at = 0.0
        before = engine.usage()

        def finished() -> int:
            # A completed saga ends with an answer of the last step, a compensated one with a second one of the first.
            undone = self._offsets.count(first) - seen_first - load.sagas if load.fails_every else 0
            return self._offsets.count(last) - seen_last + max(0, undone)

        def kill_once(done: int) -> None:
            nonlocal killed_at
            if kill_at is not None and not killed_at and done >= kill_at:
                killed_at = time.time()
                os.kill(engine.pids()[self.coordinator()], signal.SIGKILL)

        submit(
            self.client,
            engine.topic("urls"),
            jobs,
            in_flight=load.in_flight,
            finished=finished,
            give_up_s=_GIVE_UP_S,
            meanwhile=kill_once,
        )
        used, memory = engine.usage().since(before), engine.usage().rss
        if warm_up:
            return ResultRow(NAME, scenario)
        seen = outcome(self.client, engine.topic("urls"), engine.topic("sagas"), prefix, load.sagas)
        _check(seen, load)
        cpu = {name: value / load.sagas for name, value in used.items()}
        more = {}
        if killed_at:
            after = [at for at in seen.ended_ms.values() if at / 1000 > killed_at]
            more = {"recovery_s": min(after) / 1000 - killed_at, "longest_gap_s": seen.longest_gap_s}
        return ResultRow(
            NAME,
            scenario,
            sagas_per_s=load.sagas / seen.seconds,
            cpu_ms_per_saga=sum(cpu.values()),
            rss_mb=sum(memory.values()),
            settings=self.settings(load),
            cpu=cpu,
            more=more,
        )

    def coordinator(self) -> str:
        """The process that plays the coordinator."""
        return next(name for name in self.engine.supervisor.pids() if name.startswith(("coordinator", "intake+")))

    def alone(self, sagas: int) -> tuple[list[float], dict[str, float]]:
        """Submit each saga when the one before it has ended.

        Returns the milliseconds of each, a client's, end to end, and what every process used meanwhile.
        """
        follower = StateFollower(self.client, self.engine.topic("sagas"), self.partitions)
        prefix, times = f"S2-{uuid.uuid4().hex[:6]}-", []
        try:
            before = self.engine.usage()
            for number in range(sagas):
                job_id = f"{prefix}{number:07d}"
                times.append(follower.time_one(self.engine.topic("urls"), job_id, request(job_id, number)))
            return times, dict(self.engine.usage().since(before))
        finally:
            follower.close()

    def one_at_a_time(self, sagas: int) -> ResultRow:
        """S2: at least two sagas, one at a time."""
        times, used = self.alone(sagas)
        cuts = quantiles(times, n=100)
        cpu = {name: value / sagas for name, value in used.items()}
        return ResultRow(
            NAME,
            "S2",
            p50_ms=cuts[49],
            p99_ms=cuts[98],
            cpu_ms_per_saga=sum(cpu.values()),
            settings=self.settings(SagaLoad(sagas, in_flight=1)),
            cpu=cpu,
        )

    def idle(self, seconds: float) -> dict[str, float]:
        """CPU of each process in percent of a core while nothing happens."""
        # What the last load left is finished first: offsets to commit, code that the broker's JVM still compiles.
        time.sleep(_SETTLE_S)
        before = self.engine.usage()
        time.sleep(seconds)
        return {name: used / seconds / 10 for name, used in self.engine.usage().since(before).items()}

    def raw_limit(self, sagas: int) -> ResultRow:
        """The messages and bytes of the last S1 saga in the topics, through the bare client."""
        traffic = self._traffic()
        rate, cpu = raw.measure(
            self.client, self.engine.pids()["broker"], traffic, sagas, f"raw-{uuid.uuid4().hex[:8]}"
        )
        return ResultRow(
            "confluent-kafka alone",
            "S1",
            sagas_per_s=rate,
            cpu_ms_per_saga=sum(cpu.values()),
            settings={"messages": traffic.produced, "read": traffic.consumed, "bytes": round(traffic.bytes_produced)},
            cpu=cpu,
        )

    def _traffic(self) -> raw.Traffic:
        reader = Reader(self.client)
        read_again = [self.engine.topic(f"{step}.commands") for step in DEFAULT_STEPS]
        read_again += [self.engine.topic("events"), self.engine.topic("urls")]
        others = [self.engine.topic(f"{step}.results") for step in DEFAULT_STEPS] + [self.engine.topic("sagas")]
        counts: dict[str, int] = {}
        size = 0
        job = _some_completed(reader, self.engine.topic("sagas"))
        for topic in (*read_again, *others):
            for record in reader.records(topic):
                if record.key == job:
                    counts[topic] = counts.get(topic, 0) + 1
                    size += len(record.key) + len(record.value or b"")
        produced = sum(counts.values())
        return raw.Traffic(produced, sum(counts.get(topic, 0) for topic in read_again), size)


def _some_completed(reader: Reader, sagas: str) -> bytes:
    for record in reader.records(sagas):
        if record.key and record.key.startswith(b"S1"):
            return record.key
    raise RuntimeError("the raw limit takes its traffic from S1: run both")


def _check(seen: LoadResult, load: SagaLoad) -> None:
    compensated, completed = seen.count("COMPENSATED"), seen.count("COMPLETED")
    if (completed, compensated) != (load.sagas - load.failing, load.failing):
        raise RuntimeError(
            f"of {load.sagas} sagas {load.failing} had to be compensated; "
            f"{completed} were completed, {compensated} compensated, {seen.count('PARKED')} parked"
        )
