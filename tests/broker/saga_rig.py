"""A whole engine with unruly steps, the sample shop and the paid API, for tests that judge sagas from outside."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from confluent_kafka import KafkaException, Producer

from processors.demo import observations as outside
from processors.demo.demo import STEPS, demo_pipeline
from processors.demo.sample_servers import SampleServers
from processors.errors import ConfigurationError
from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.messages.wire import encode_event
from processors.saga.events import Cancelled
from processors.saga.invariants import LogPosition
from tests.broker import failpoints, unruly_steps
from tests.chaos.asking import divergences, lags, scrapesaga
from tests.chaos.verdict import Seen, judge

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "rig"
PATIENT = "patient"
PAID = ("enrich", "classify")
ENDED = ("COMPLETED", "COMPENSATED")
# Eight Python processes on two cores that others use, too.
WITHIN_S = 240.0
_POLL_S = 0.3


def hasty(step: str) -> str:
    """Return the name of the pipeline in which this step has but three seconds an attempt."""
    return f"hasty_{step}"


class Rig:
    """One engine, and what is outside of it."""

    def __init__(self, folder: Path) -> None:
        self.unruly = folder / "unruly"
        self.failpoints = folder / "failpoints"
        for one in (self.unruly, self.failpoints):
            one.mkdir(parents=True)
        self.world = SampleServers(folder / "world", seed=11, products=10_000)
        self._folder = folder
        self._products = 0
        self._poison: set[LogPosition] = set()
        self._known_letters: set[LogPosition] = set()

    def __enter__(self) -> Self:
        self.world.start()
        try:
            pipelines = []
            for name in (PATIENT, *map(hasty, STEPS)):
                path = self._folder / f"{name}.yaml"
                path.write_text(yaml.safe_dump(self._pipeline(name), sort_keys=False), "utf-8")
                pipelines.append(path)
            self.engine = LocalEngine(
                self._folder / "engine",
                pipelines,
                settings={
                    "SCRAPESAGA_TOPIC_PREFIX": PREFIX,
                    "SCRAPESAGA_SESSION_TIMEOUT": "4s",
                    "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
                    "SCRAPESAGA_CLICKHOUSE_DATABASE": "default",
                },
                extra={
                    "DEMO_API_TOKEN": self.world.api_token,
                    "PYTHONPATH": str(ROOT),
                    unruly_steps.FOLDER: str(self.unruly),
                    failpoints.FOLDER: str(self.failpoints),
                },
            )
            self.engine.start()
        except BaseException:
            self.world.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.stop()
        self.world.stop()

    def _pipeline(self, name: str) -> dict[str, Any]:
        pipeline = demo_pipeline(self.world)
        pipeline["name"] = name
        steps: Any = pipeline["steps"]
        for step in steps:
            use = step["use"]
            step |= {
                "use": f"tests.broker.unruly_steps:{use.capitalize()}",
                "name": step.get("name", use),
                "timeout": "60s",
                "retry": {"attempts": 2, "base": "50ms", "cap": "200ms"},
                "undo": {"timeout": "20s", "retry": {"attempts": 3, "base": "100ms", "cap": "500ms"}},
            }
            if name == hasty(step["name"]):
                step["timeout"] = "3s"
        return pipeline

    # --- doing ------------------------------------------------------------------------------------------------------

    def submit(self, jobs: Mapping[str, Mapping[str, str]], pipeline: str = PATIENT) -> None:
        """Submit jobs by id, each with what its steps do; a product of its own for each."""
        self.produce(
            f"{PREFIX}.urls",
            (
                (None, encode_request(ScrapeRequest(self.product(), pipeline, job, {"unruly": dict(wishes)}, "rig")))
                for job, wishes in jobs.items()
            ),
        )

    def product(self) -> str:
        """Return the address of a product that nobody asked for yet."""
        self._products += 1
        return self.world.url(self._products)

    def produce(self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> list[LogPosition]:
        """Produce (key, value) pairs; return where they lie."""
        producer = Producer(
            {
                **self.engine.client,
                "acks": "all",
                # As everybody else hashes keys: events lie in the partition of their job.
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )
        places: list[LogPosition] = []
        errors: list[object] = []

        def delivered(error: object, message: Any) -> None:
            if error is None:
                places.append(LogPosition(message.topic(), message.partition(), message.offset()))
            else:
                errors.append(error)

        for key, value in records:
            producer.produce(topic, value, key, on_delivery=delivered)
        assert producer.flush(60) == 0
        assert not errors
        return places

    def cancel(self, job: str, reason: str) -> None:
        """Put an operator's cancellation where `scrapesaga cancel` puts it, without the second that a command takes."""
        event = encode_event(Cancelled(job, "a test", reason), request_id=uuid.uuid4().hex)
        self.produce(f"{PREFIX}.events", [(job.encode(), event)])

    def poison(self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> list[LogPosition]:
        """Produce what nobody can read, and remember it for the verdicts."""
        places = self.produce(f"{PREFIX}.{topic}", records)
        self.expect_letters(places)
        return places

    def expect_letters(self, places: Iterable[LogPosition]) -> None:
        """Remember for the verdicts that what lies there is nobody's job."""
        self._poison.update(places)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this engine."""
        return scrapesaga(self.engine, *arguments)

    @property
    def poisoned(self) -> frozenset[LogPosition]:
        """Return where the poison lies."""
        return frozenset(self._poison)

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def reader(self) -> Reader:
        """A reader of the topics."""
        return Reader(self.engine.client)

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the latest state of every job; none at all while Kafka is away."""
        try:
            return outside.saga_states(self.reader, f"{PREFIX}.sagas")
        except (KafkaException, ConfigurationError):
            return {}

    def until(self, done: Callable[[dict[str, dict[str, Any]]], bool], what: str) -> dict[str, dict[str, Any]]:
        """Return the states once they are as asked; fails, with the phases, if that takes too long."""
        give_up = time.monotonic() + WITHIN_S
        while not done(states := self.states()):
            phases = {job: f"{state['phase']} {state['reason']}" for job, state in states.items()}
            assert time.monotonic() < give_up, f"{what} took over {WITHIN_S} s: {phases}"
            time.sleep(_POLL_S)
        return states

    def ended(self, jobs: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return the states of these jobs once all have ended."""
        states = self.until(
            lambda found: all(job in found and found[job]["phase"] in ENDED for job in jobs), f"the end of {[*jobs]}"
        )
        return {job: states[job] for job in jobs}

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Return once something holds; fails if that takes too long."""
        give_up = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < give_up, f"{what} took over {WITHIN_S} s"
            time.sleep(_POLL_S)

    def fetched(self) -> int:
        """Return how many requests the shop has had."""
        return int(outside.asked(f"{self.world.shop_url}/_stats")["requests"])

    def charged(self) -> int:
        """Return how many invoices stand."""
        return sum(one["status"] == "charged" for one in outside.invoices(self.world.api_url))

    def check(self, jobs: Collection[str]) -> None:
        """Judge these jobs from outside: nothing half-written, paid twice or set aside without a reason."""
        assert self.broken(jobs) == {}

    def broken(self, jobs: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return each promise that these jobs break, with how."""
        reader, mine = self.reader, frozenset(jobs)
        letters = outside.dead_letters(reader, f"{PREFIX}.dead-letters")
        new = {place: reason for place, reason in letters.items() if place not in self._known_letters}
        self._known_letters.update(new)

        def owned(keys: Iterable[str]) -> frozenset[str]:
            return frozenset(key for key in keys if key.rsplit(":", 2)[0] in mine)

        seen = Seen(
            accepted=dict.fromkeys(mine, "completed"),
            states={job: state for job, state in self.states().items() if job in mine},
            warehouse=self.warehouse() & mine,
            records=outside.live_keys(reader, f"{PREFIX}.records") & mine,
            pages=owned(outside.live_keys(reader, f"{PREFIX}.pages")),
            invoices=tuple(one for one in outside.invoices(self.world.api_url) if owned([str(one["key"])])),
            paid_steps=PAID,
            letters=new,
            poison=frozenset(self._poison & new.keys()),
            cancelled=mine,
            lags={},
            divergences=(),
        )
        return {check.promise: check.broken for check in judge(seen) if check.broken}

    def warehouse(self) -> frozenset[str]:
        """Return the jobs that users see in ClickHouse."""
        views = (f"{pipeline}_live" for pipeline in (PATIENT, *map(hasty, STEPS)))
        return frozenset().union(*(outside.warehouse_jobs(self.engine.warehouse, view) for view in views))

    def lags(self) -> dict[str, int]:
        """Return how many records each role has not acknowledged."""
        return lags(self.engine, STEPS)

    def divergences(self) -> tuple[str, ...]:
        """Return what `audit verify` finds beside our poison."""
        return divergences(self.engine, self._poison)

    def status(self, job: str) -> dict[str, Any]:
        """Return what `status JOB` says."""
        said = self.cli("status", job, "--json")
        assert said.returncode == 0, said.stderr
        state: dict[str, Any] = json.loads(said.stdout)
        return state
