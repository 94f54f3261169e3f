"""A whole engine on this machine: Kafka, ClickHouse and the processes of all roles, started and stopped together."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from processors.kafka.credentials import kafka_security
from processors.local.claim import Claim
from processors.local.clickhouse import EmbeddedClickHouse
from processors.local.errors import LocalError
from processors.local.kafka import EmbeddedKafka
from processors.local.ports import free_port
from processors.local.private import private_folder, write_private
from processors.local.server import LocalServer
from processors.local.supervisor import ProcessSpec, Supervisor
from processors.local.watch import ServerWatch
from processors.pipeline.pipeline import read_pipelines
from processors.process.layout import EACH, process_name, read_layout
from processors.process.provisioning import apply_topics, steps_served
from processors.process.roles import COORDINATOR, INTAKE, find_roles
from processors.saga.plan import Plan
from processors.settings.settings import Settings

# Few partitions: each costs a file handle and a share of every fetch, and one machine has few cores.
LOCAL_PARTITIONS = 4
# Two cores start eight Python processes in some ten seconds; a crash loop is reported long before.
READY_WITHIN = timedelta(seconds=240)
ENV_FILE = "up.env"
_CHILD = "import sys; from processors.process.process import main; sys.exit(main(sys.argv[1:]))"
# How to log in at a Kafka or ClickHouse of somebody's own: of no use for those that are started here.
_LOGIN_AT_KAFKA = ("SCRAPESAGA_SECURITY_", "SCRAPESAGA_SASL_", "SCRAPESAGA_SSL_")
_LOGIN_AT_CLICKHOUSE = ("SCRAPESAGA_CLICKHOUSE_USER", "SCRAPESAGA_CLICKHOUSE_PASSWORD")


@dataclass(frozen=True, slots=True)
class WarehouseLogin:
    """Where ClickHouse answers, and as whom to ask it."""

    url: str
    user: str
    password: str = field(repr=False)


class LocalEngine:
    """Kafka, ClickHouse and the roles of some pipelines, with their data in one folder that survives restarts.

    The folder is its owner's alone, and one engine's at a time. Addresses are written to `up.env` in it, where the
    command line finds them; passwords are named there by their files. `extra` adds environment variables (secrets of
    steps) to the roles. `processes` says which roles share a process, as read_layout() reads it.
    Servers and roles that end by themselves are started again.

    `tell` is called, on some thread, with a sentence about each such event, `doing` with what the start waits for.
    `clickhouse_faults` lets a test make ClickHouse misbehave.
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
        tell: Callable[[str], None] | None = None,
        doing: Callable[[str], None] = lambda _what: None,
        clickhouse_faults: bool = False,
    ) -> None:
        self._processes = processes
        self.data_dir = data_dir.absolute()
        self.pipelines = [path.absolute() for path in pipelines]
        self.kafka = None if bootstrap_servers else EmbeddedKafka(self.data_dir / "kafka")
        self.clickhouse = (
            None if clickhouse_url else EmbeddedClickHouse(self.data_dir / "clickhouse", faults=clickhouse_faults)
        )
        useless = (*(_LOGIN_AT_KAFKA if self.kafka else ()), *(_LOGIN_AT_CLICKHOUSE if self.clickhouse else ()))
        self._given = {name: value for name, value in (settings or {}).items() if not name.startswith(useless)}
        self._extra = {name: value for name, value in (extra or {}).items() if not name.startswith(useless)}
        self._bootstrap_servers = bootstrap_servers or ""
        self._clickhouse_url = clickhouse_url or ""
        self.supervisor = Supervisor(tell=tell)
        self.tell = tell or self.supervisor.tell
        self._doing = doing
        self._ports: dict[str, int] = {}
        self._roles_of: dict[str, tuple[str, ...]] = {}
        self._own_folders: set[str] = set()
        self._claim: Claim | None = None
        self._watches: list[ServerWatch] = []
        #: The pipelines that new requests follow, by name.
        self.plans: dict[str, Plan] = {}
        #: The steps that have a worker, and those of them that no pipeline names any more.
        self.steps: tuple[str, ...] = ()
        self.retired_steps: tuple[str, ...] = ()

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
    def client(self) -> dict[str, str]:
        """Where clients reach Kafka and how they log in, as settings of librdkafka."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            **kafka_security(self.settings()).for_confluent(),
        }

    @property
    def clickhouse_url(self) -> str:
        """ClickHouse's address."""
        return self._clickhouse_url or (self.clickhouse.url if self.clickhouse else "")

    @property
    def warehouse(self) -> WarehouseLogin:
        """How to ask ClickHouse."""
        settings = self.settings()
        return WarehouseLogin(settings.clickhouse_url, settings.clickhouse_user, settings.clickhouse_password.reveal())

    @property
    def servers(self) -> tuple[LocalServer, ...]:
        """The servers that are this engine's own."""
        return tuple(server for server in (self.kafka, self.clickhouse) if server is not None)

    @property
    def observed(self) -> dict[str, str]:
        """Where each process shows /metrics, /ready and /live."""
        return {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}

    def environment(self) -> dict[str, str]:
        """Return the settings of this engine as environment variables; secrets are named by their files."""
        retired = (*self._given.get("SCRAPESAGA_RETIRED_STEPS", "").split(","), *self.retired_steps)
        return {
            "SCRAPESAGA_PARTITIONS": str(LOCAL_PARTITIONS),
            "SCRAPESAGA_SESSION_TIMEOUT": "6s",
            "SCRAPESAGA_COMMIT_INTERVAL": "500ms",
            # Ctrl-C ends everything within ten seconds; a step that is cut off is delivered again.
            "SCRAPESAGA_DRAIN_TIMEOUT": "4s",
            **self._given,
            "SCRAPESAGA_RETIRED_STEPS": ",".join(name.strip() for name in retired if name.strip()),
            **self._addresses(),
            "SCRAPESAGA_PIPELINES": ",".join(map(str, self.pipelines)),
            "SCRAPESAGA_DATA_DIR": str(self.data_dir / "workers"),
        }

    def _addresses(self) -> dict[str, str]:
        found = {"SCRAPESAGA_BOOTSTRAP_SERVERS": self.bootstrap_servers}
        if self.kafka:
            found |= self.kafka.environment
        found["SCRAPESAGA_CLICKHOUSE_URL"] = self.clickhouse_url
        if self.clickhouse:
            found["SCRAPESAGA_CLICKHOUSE_USER"] = self.clickhouse.user
            found["SCRAPESAGA_CLICKHOUSE_PASSWORD_FILE"] = str(self.clickhouse.password_file)
        return found

    def start(self) -> None:
        """Start everything; returns once every role is ready. Raises LocalError or ConfigurationError, stopped again."""
        self._claim = Claim(private_folder(self.data_dir))
        try:
            for server in self.servers:
                self._doing(f"starting {server.what}")
                server.start()
                watch = ServerWatch(server, self.tell)
                self._watches.append(watch)
                watch.start()
            self._doing("creating the topics")
            settings = self.settings()
            self.plans = read_pipelines(self.pipelines, settings.schemas_dir)
            self.steps = steps_served(settings, self.plans.values())
            layout = read_layout(self._processes, (COORDINATOR, *self.steps, INTAKE))
            for roles in layout:
                find_roles(roles, self.steps)
            apply_topics(settings, settings.catalogue(self.steps))
            self._write_addresses()
            for roles in layout:
                self.start_process(*roles)
            self.wait_until_ready()
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
        for watch in self._watches:
            watch.end()
        killed = self.supervisor.stop_all(timedelta(seconds=6))
        for server in reversed(self.servers):
            server.stop()
        for watch in self._watches:
            watch.join()
        if self._claim is not None:
            self._claim.close()
            self._claim = None
        return killed

    def start_process(self, *roles: str, name: str = "") -> None:
        """Start a process of one or more roles and keep it running; another one of the same roles needs a name of its own.

        Processes of a role share its partitions. Raises LocalError if the name is taken.
        """
        port = free_port(avoid=frozenset(self._ports.values()))
        if name:
            # Two processes of a role must not share a table on disk.
            self._own_folders.add(name)
        name = name or process_name(roles)
        env = self._environment_of(name, port)
        self._roles_of[name] = roles
        logs = self.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        # -P: a user's own schemas/ folder in the working directory must not shadow ours.
        argv = (sys.executable, "-P", "-c", _CHILD, *roles)
        self.supervisor.start(ProcessSpec(name, argv, env, logs / f"{name}.log"))
        self._ports[name] = port

    def _environment_of(self, name: str, port: int) -> dict[str, str]:
        env = {**self.whole_environment(), "SCRAPESAGA_HTTP_PORT": str(port)}
        if name in self._own_folders:
            env["SCRAPESAGA_DATA_DIR"] = str(self.data_dir / "workers" / name)
        return env

    def take_up(self, plans: dict[str, Plan], steps: tuple[str, ...], retired: tuple[str, ...]) -> None:
        """Serve these steps, `retired` among them; what is restarted from now on knows them. See `reload`."""
        added = [step for step in steps if step not in self.steps]
        self.plans, self.steps, self.retired_steps = plans, steps, retired
        for name, port in self._ports.items():
            self.supervisor.replace_env(name, self._environment_of(name, port))
        self._write_addresses()
        for step in added:
            self.start_process(step)
            self.tell(f"{step} runs, pid {self.supervisor.pids().get(step)}")

    def process_of(self, role: str) -> str:
        """Return the name of the process that plays a role. Raises LocalError if none does."""
        found = next((name for name, roles in self._roles_of.items() if role in roles), None)
        if found is None:
            raise LocalError(f"no process runs the role {role}")
        return found

    def stop_process(self, name: str) -> bool:
        """Stop a process in order and leave its partitions to the others; tell whether it ended by itself."""
        self._ports.pop(name, None)
        self._roles_of.pop(name, None)
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

    def wait_until_ready(self) -> None:
        """Return once every role is ready. Raises LocalError for one that keeps ending, or when it takes too long."""
        give_up = time.monotonic() + READY_WITHIN.total_seconds()
        while waiting := self.not_ready():
            self._doing(f"waiting for {', '.join(waiting)}")
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
        write_private(self.data_dir / ENV_FILE, lines)
