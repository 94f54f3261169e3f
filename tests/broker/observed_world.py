"""An engine of two processes, coordinator and workers, on a broker; looked at through /metrics, logs and topics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from processors.kafka.credentials import kafka_client
from processors.kafka.partitioner import partition_for
from processors.kafka.reader import Reader
from processors.local.ports import free_port
from processors.operations.queries import all_states
from processors.pipeline.pipeline import read_pipelines
from processors.process.provisioning import apply_topics, steps_served
from processors.settings.settings import Settings

CHECKOUT = Path(__file__).parents[2]
_CHILD = "import sys; from processors.process.process import main; sys.exit(main(sys.argv[1:]))"
_STEPS = """
steps:
  - {use: "tests.broker.observed_steps:Logged", name: first}
  - use: "tests.broker.observed_steps:Logged"
    name: second
"""
PIPELINES = {
    "default": f"name: default\nrecord: product{_STEPS}",
    "brief": f"name: brief\nrecord: product\nretention: 1s{_STEPS}",
}
#: What the step `fetch` sends to the site of `FETCHING`, and what may be seen nowhere.
SECRET = "s3cret-of-a-step"
FETCHING = """
name: fetching
record: product
steps:
  - use: fetch
    with: {auth: {bearer: PAGE_TOKEN, origins: ["ORIGIN"]}}
  - {use: "tests.broker.observed_steps:Logged", name: first}
  - {use: "tests.broker.observed_steps:Logged", name: second}
"""
# Two cores and many neighbours: a condition that holds at all holds long before.
WITHIN_S = 150.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def until(holds: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
    """Wait for a condition; fail with `what` after a while."""
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)


class Role:
    """One process that plays some roles."""

    def __init__(self, env: Mapping[str, str], roles: tuple[str, ...], log: Path) -> None:
        self._env, self._roles, self.log = env, roles, log
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; ready() tells when it works."""
        env = {**self._env, "SCRAPESAGA_HTTP_PORT": str(self.port)}
        with self.log.open("ab") as out:
            argv = [sys.executable, "-P", "-c", _CHILD, *self._roles]
            self._process = subprocess.Popen(argv, env=env, cwd=self.log.parent, stdout=out, stderr=out)

    def ready(self) -> bool:
        """Tell whether it takes work; fails if it has ended."""
        assert self._process is not None and self._process.poll() is None, self.log.read_text("utf-8")[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5):
                return True
        except OSError:
            return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def metrics(self) -> Samples:
        """Return every sample of /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; 0 where there is none."""
        return self.metrics().get((name, frozenset(labels.items())), 0.0)

    def lines(self) -> list[dict[str, Any]]:
        """Return its log, which must be JSON in every line."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


class Engine:
    """A coordinator, and a worker that is everything else."""

    def __init__(
        self,
        servers: str,
        folder: Path,
        prefix: str,
        extra: Mapping[str, str] | None = None,
        more_pipelines: Mapping[str, str] | None = None,
    ) -> None:
        pipelines = folder / "pipelines"
        pipelines.mkdir(parents=True)
        for name, text in {**PIPELINES, **(more_pipelines or {})}.items():
            (pipelines / f"{name}.yaml").write_text(text, "utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPESAGA_")}
        env = {
            **kept,
            "PYTHONPATH": str(CHECKOUT),
            "SCRAPESAGA_BOOTSTRAP_SERVERS": servers,
            "SCRAPESAGA_TOPIC_PREFIX": prefix,
            "SCRAPESAGA_PARTITIONS": "2",
            "SCRAPESAGA_PIPELINES": str(pipelines),
            "SCRAPESAGA_DATA_DIR": str(folder / "data"),
            "SCRAPESAGA_SESSION_TIMEOUT": "3s",
            "SCRAPESAGA_COMMIT_INTERVAL": "200ms",
            "SCRAPESAGA_DRAIN_TIMEOUT": "2s",
            "SCRAPESAGA_LOG_FORMAT": "json",
            **(extra or {}),
        }
        self.env = env
        self.settings = Settings.from_env(env)
        steps = steps_served(self.settings, read_pipelines(self.settings.pipelines).values())
        self.catalogue = self.settings.catalogue(steps)
        self.coordinator = Role(env, ("coordinator",), folder / "coordinator.log")
        self.worker = Role(env, ("intake", *steps), folder / "worker.log")
        self.reader = Reader(kafka_client(self.settings))
        self._producer = Producer({"bootstrap.servers": servers})

    def __enter__(self) -> Self:
        apply_topics(self.settings, self.catalogue)
        for role in (self.coordinator, self.worker):
            role.start()
        until(lambda: self.coordinator.ready() and self.worker.ready(), "both processes ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        codes = [role.end() for role in (self.worker, self.coordinator)]
        if error is None:
            assert codes == [0, 0]

    def submit(
        self, job_id: str, pipeline: str = "default", traceparent: str = "", url: str = "", **payload: str
    ) -> None:
        """Put a request on scrape.urls, as `kcat` would."""
        about = {"job_id": job_id, "pipeline": pipeline, "payload": payload}
        request = {"url": url or f"http://shop.test/{job_id}", **about}
        headers: list[tuple[str, str | bytes | None]] = []
        if traceparent:
            headers.append(("traceparent", traceparent.encode()))
        self._producer.produce(self.catalogue.urls.name, json.dumps(request).encode(), headers=headers)
        assert self._producer.flush(10) == 0

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the latest state of every job, as scrape.sagas has it."""
        return {state["job_id"]: state for state in all_states(self.reader, self.catalogue.sagas.name).all()}

    def phases_of(self, jobs: Iterable[str]) -> dict[str, str]:
        """Return the phases of those of the jobs that have a state."""
        states = self.states()
        return {job: states[job]["phase"] for job in jobs if job in states}

    def phases(self) -> dict[str, int]:
        """Count the latest states by phase."""
        found: dict[str, int] = {}
        for state in self.states().values():
            found[state["phase"]] = found.get(state["phase"], 0) + 1
        return found

    def shown(self) -> dict[str, int]:
        """Return the coordinator's gauges of sagas by phase, those that are not zero."""
        return {
            dict(labels)["phase"]: int(value)
            for (name, labels), value in self.coordinator.metrics().items()
            if name == "scrapesaga_sagas" and value
        }

    def partition(self, job_id: str) -> int:
        """Return the partition of a job."""
        return partition_for(job_id.encode(), self.catalogue.events.partitions)
