"""A whole engine on this machine: Kafka, ClickHouse and the processes of all roles, started and stopped together."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from processors.local.clickhouse import EmbeddedClickHouse
from processors.local.errors import LocalError
from processors.local.kafka import EmbeddedKafka
from processors.local.ports import free_port
from processors.local.supervisor import ProcessSpec, Supervisor
from processors.pipeline.pipeline import read_pipelines
from processors.process.layout import EACH, process_name, read_layout
from processors.process.provisioning import apply_topics, steps_served
from processors.process.roles import COORDINATOR, INTAKE, find_roles
from processors.settings.settings import Settings

# Few partitions: each costs a file handle and a share of every fetch, and one machine has few cores.
LOCAL_PARTITIONS = 4
# Two cores start eight Python processes in some ten seconds; a crash loop is reported long before.
READY_WITHIN = timedelta(seconds=240)
ENV_FILE = "up.env"
_CHILD = "import sys; from processors.process.process import main; sys.exit(main(sys.argv[1:]))"


class LocalEngine:
    """Kafka, ClickHouse and the roles of some pipelines, with their data in one folder that survives restarts.

    `extra` adds environment variables (secrets of steps) to the roles. `processes` says which roles share a process, as
    read_layout() reads it. Addresses are written to `up.env` in the folder, where the command line finds them.
    """

    def __init__(
        self,
        data_dir: Path,
        pipelines: Sequence[Path],
        *,
        bootstrap_servers: str | None = None,
        clickhouse_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        processes: str = EACH,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._pipelines = [path.absolute() for path in pipelines]
        self._given = dict(settings or {})
        self._extra = dict(extra or {})
        self._processes = processes
        self.kafka = None if bootstrap_servers else EmbeddedKafka(self.data_dir / "kafka")
        self.clickhouse = None if clickhouse_url else EmbeddedClickHouse(self.data_dir / "clickhouse", faults=True)
        self._bootstrap_servers = bootstrap_servers or ""
        self._clickhouse_url = clickhouse_url or ""
        self.supervisor = Supervisor()
        self._ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address."""
        return self._bootstrap_servers or (self.kafka.bootstrap_servers if self.kafka else "")

    @property
    def clickhouse_url(self) -> str:
        """ClickHouse's address."""
        return self._clickhouse_url or (self.clickhouse.url if self.clickhouse else "")

    @property
    def observed(self) -> dict[str, str]:
        """Where each process shows /metrics, /ready and /live."""
        return {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}

    def environment(self) -> dict[str, str]:
        """Return the settings of this engine as environment variables."""
        return {
            "SCRAPESAGA_PARTITIONS": str(LOCAL_PARTITIONS),
            "SCRAPESAGA_SESSION_TIMEOUT": "6s",
            "SCRAPESAGA_COMMIT_INTERVAL": "500ms",
            # Ctrl-C ends everything within ten seconds; a step that is cut off is delivered again.
            "SCRAPESAGA_DRAIN_TIMEOUT": "4s",
            **self._given,
            "SCRAPESAGA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "SCRAPESAGA_CLICKHOUSE_URL": self.clickhouse_url,
            "SCRAPESAGA_PIPELINES": ",".join(map(str, self._pipelines)),
            "SCRAPESAGA_DATA_DIR": str(self.data_dir / "workers"),
        }

    def start(self) -> None:
        """Start everything; returns once every role is ready. Raises LocalError or ConfigurationError, stopped again."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            if self.kafka:
                self.kafka.start()
            if self.clickhouse:
                self.clickhouse.start()
            settings = self.settings()
            steps = steps_served(settings, read_pipelines(self._pipelines, settings.schemas_dir).values())
            layout = read_layout(self._processes, (COORDINATOR, *steps, INTAKE))
            for roles in layout:
                find_roles(roles, steps)
            apply_topics(settings, settings.catalogue(steps))
            self._write_addresses()
            for roles in layout:
                self.start_process(*roles)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def settings(self) -> Settings:
        """Return the settings that the roles are started with."""
        return Settings.from_env(self.whole_environment())

    def whole_environment(self) -> dict[str, str]:
        """Return the environment of this engine's processes, secrets included."""
        # Settings of the surrounding shell are for another engine.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPESAGA_")}
        return {**kept, **self._extra, **self.environment()}

    def stop(self) -> tuple[str, ...]:
        """Stop the roles, then ClickHouse and Kafka, within ten seconds; return what had to be killed."""
        killed = self.supervisor.stop_all(timedelta(seconds=6))
        if self.clickhouse:
            self.clickhouse.stop()
        if self.kafka:
            self.kafka.stop()
        return killed

    def start_process(self, *roles: str, name: str = "") -> None:
        """Start a process of one or more roles and keep it running; another one of the same roles needs a name of its own.

        Processes of a role share its partitions. Raises LocalError if the name is taken.
        """
        port = free_port(avoid=frozenset(self._ports.values()))
        env = {**self.whole_environment(), "SCRAPESAGA_HTTP_PORT": str(port)}
        if name:
            # Two processes of a role must not share a table on disk.
            env["SCRAPESAGA_DATA_DIR"] = str(self.data_dir / "workers" / name)
        name = name or process_name(roles)
        logs = self.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        # -P: a user's own schemas/ folder in the working directory must not shadow ours.
        argv = (sys.executable, "-P", "-c", _CHILD, *roles)
        self.supervisor.start(ProcessSpec(name, argv, env, logs / f"{name}.log"))
        self._ports[name] = port

    def stop_process(self, name: str) -> bool:
        """Stop a process in order and leave its partitions to the others; tell whether it ended by itself."""
        self._ports.pop(name, None)
        return self.supervisor.stop(name)

    def not_ready(self) -> dict[str, str]:
        """Return the processes that aren't ready, with the reason."""
        reasons = {}
        for name, port in [*self._ports.items()]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2):
                    continue
            except OSError as error:
                reasons[name] = str(error)
        return reasons

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN.total_seconds()
        while waiting := self.not_ready():
            looping = [state for state in self.supervisor.states().values() if state.crash_looping]
            if looping:
                raise LocalError(f"{looping[0].name} keeps ending; the end of its log:\n{looping[0].last_log_lines}")
            if time.monotonic() > give_up:
                raise LocalError(
                    f"not ready within {READY_WITHIN}: {waiting}; see the logs in {self.data_dir / 'logs'}"
                )
            time.sleep(0.1)

    def _write_addresses(self) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in self.environment().items())
        (self.data_dir / ENV_FILE).write_text(lines, "utf-8")
