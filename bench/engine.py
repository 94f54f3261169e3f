"""The engine under test: an embedded Kafka and the real roles as real processes, with default settings."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from bench.usage import Usage
from processors.local.kafka import EmbeddedKafka
from processors.local.ports import free_port
from processors.local.supervisor import ProcessSpec, Supervisor
from processors.pipeline.pipeline import read_pipeline
from processors.process.layout import process_name, read_layout
from processors.process.provisioning import apply_topics
from processors.process.roles import COORDINATOR, INTAKE
from processors.saga.plan import Plan
from processors.settings.settings import Settings
from topics.catalogue import DEFAULT_STEPS

PIPELINE = "bench"
#: Which roles share a process.
LAYOUTS = {
    name: read_layout(text, (INTAKE, COORDINATOR, *DEFAULT_STEPS))
    for name, text in {"one": "one", "two": "coordinator,one", "each": "coordinator,each"}.items()
}
_READY_WITHIN_S = 120.0
_CHILD = "import sys; from processors.process.process import main; sys.exit(main(sys.argv[1:]))"


def pipeline(extra: Mapping[str, object] | None = None) -> dict[str, object]:
    """Five steps that do nothing; all but parse have something to undo."""
    uses = {step: "bench.steps:Noop" for step in DEFAULT_STEPS} | {"parse": "bench.steps:Pure"}
    return {"name": PIPELINE, "steps": [{"name": step, "use": use} for step, use in uses.items()], **(extra or {})}


class BenchEngine:
    """Kafka and roles in a folder; `settings` are environment variables beyond the defaults."""

    def __init__(
        self,
        folder: Path,
        *,
        layout: str,
        settings: Mapping[str, str] | None = None,
        broker: EmbeddedKafka | None = None,
    ) -> None:
        self.folder = folder
        self.layout = layout
        self.settings_given = dict(settings or {})
        self.kafka = broker or EmbeddedKafka(folder / "kafka", fast_start=False)
        self._stops_broker = broker is None
        self.supervisor = Supervisor()
        self._ports: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._stops_broker:
                self.kafka.start()
                stack.callback(self.kafka.stop)
            self.prepare()
            stack.callback(self.supervisor.stop_all, timedelta(seconds=15))
            self.start_roles()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def prepare(self) -> None:
        """Write the pipeline and make the topics."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "bench.yaml").write_text(yaml.safe_dump(pipeline(), sort_keys=False))
        settings = self.settings()
        apply_topics(settings, settings.catalogue(DEFAULT_STEPS))

    def plan(self) -> Plan:
        """The pipeline as the roles pin it."""
        return read_pipeline(self.folder / "bench.yaml")

    def start_roles(self) -> None:
        """Start every process of the layout and wait until all are ready."""
        for roles in LAYOUTS[self.layout]:
            self.start_process(roles)
        self.wait_until_ready()

    def start_process(self, roles: Sequence[str]) -> None:
        """Start one process."""
        name = process_name(roles)
        port = self._ports[name] = free_port()
        env = {**self.environment(), "SCRAPESAGA_HTTP_PORT": str(port)}
        argv = (sys.executable, "-P", "-c", _CHILD, *roles)
        self.supervisor.start(ProcessSpec(name, argv, env, self.folder / "logs" / f"{name}.log"))

    def environment(self) -> dict[str, str]:
        """What the roles see."""
        root = str(Path(__file__).parent.parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPESAGA_")}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", "")))),
            **self.settings_given,
            **self.kafka.environment,
            "SCRAPESAGA_PIPELINES": str(self.folder / "bench.yaml"),
            "SCRAPESAGA_DATA_DIR": str(self.folder / "workers"),
        }

    def settings(self) -> Settings:
        """The settings that the roles run with."""
        return Settings.from_env(self.environment())

    def topic(self, short_name: str) -> str:
        """The full name of a topic."""
        return self.settings().catalogue(DEFAULT_STEPS).topic(short_name).name

    def pids(self) -> dict[str, int]:
        """Every process, the broker included."""
        pids = self.supervisor.pids()
        if self.kafka.pid is not None:
            pids["broker"] = self.kafka.pid
        return pids

    def usage(self) -> Usage:
        """What every process has used until now."""
        return Usage.of(self.pids())

    def wait_until_ready(self, within_s: float = _READY_WITHIN_S) -> float:
        """Return after how many seconds every role was ready."""
        began = time.monotonic()
        while waiting := [name for name, port in self._ports.items() if not _is_ready(port)]:
            if time.monotonic() - began > within_s:
                raise TimeoutError(f"not ready within {within_s:.0f} s: {waiting}; see {self.folder / 'logs'}")
            time.sleep(0.05)
        return time.monotonic() - began


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2):
            return True
    except OSError:
        return False
