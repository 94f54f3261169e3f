"""The role `auditor`: a process that follows the topics, exports what it finds, and writes to no topic."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from datetime import timedelta

from confluent_kafka import KafkaException

from processors.auditor.follow import Beginning, Follower
from processors.auditor.throttled_log import ThrottledLog
from processors.auditor.violations import Invariant, label_of
from processors.errors import ConfigurationError
from processors.kafka.credentials import kafka_client
from processors.kafka.reader import Reader
from processors.observability import metrics
from processors.process.health_server import HealthServer
from processors.saga.invariants import Violation
from processors.settings.settings import Settings
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

AUDITOR = "auditor"
# A thread that reads nothing looks up this often; silent for much longer, it hangs.
SILENT_S = 60.0


def beginning(settings: Settings, catalogue: Catalogue, since: timedelta) -> Beginning:
    """Return where an audit begins that reaches back so far; 0: all that is there."""
    since_ms = int((time.time() - since.total_seconds()) * 1000) if since else 0
    return Beginning(catalogue, since_ms, settings.retention_history, settings.retention_commands)


class AuditorRole:
    """Follows the topics in a thread of its own, until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = ThrottledLog()
        self._stop = threading.Event()
        self._heard_s = time.monotonic()
        self._counted = 0
        self._follower: Follower | None = None
        for rule in Invariant:
            # There from the start, so that the first broken one is seen as an increase.
            metrics.invariant_violations.labels(label_of(rule))

    def follow(self) -> None:
        """Audit until stopped. Raises ConfigurationError, KafkaException."""
        reader = Reader(kafka_client(self._settings))
        # Of all steps that have topics: sagas in flight may need more than the present pipelines name.
        catalogue = self._settings.catalogue(reader.steps(self._settings.topic_prefix))
        begin = beginning(self._settings, catalogue, self._settings.audit_since)
        follower = Follower(reader, begin, self._violated)
        try:
            log.info(
                "auditing",
                extra={
                    "since": str(self._settings.audit_since),
                    "taken_over": follower.taken_over,
                    "events": follower.lag,
                },
            )
            self._follower = follower
            while not self._stop.is_set():
                follower.step(timeout_s=0.2)
                self._heard_s = time.monotonic()
        finally:
            self._follower = None
            follower.close()

    def stop(self) -> None:
        """Have the thread end soon."""
        self._stop.set()

    def ready(self) -> list[str]:
        """Return why the role is not ready."""
        return [] if self._follower is not None else ["the plans and the sagas in flight are still being read"]

    def alive(self) -> list[str]:
        """Return why the role should be restarted."""
        silent = time.monotonic() - self._heard_s
        return [f"nothing was read for {silent:.0f} s"] if self._follower is not None and silent > SILENT_S else []

    def _violated(self, violation: Violation) -> None:
        metrics.invariant_violations.labels(label_of(violation.rule)).inc()
        self._log.write(violation, time.monotonic())

    async def show(self) -> None:
        """Bring the sums up to date that nothing counts on its way."""
        follower = self._follower
        if follower is None:
            return
        auditor = follower.auditor
        metrics.audited_events.inc(auditor.events - self._counted)
        self._counted = auditor.events
        metrics.audit_lag.set(follower.lag)
        metrics.audit_unjudged.set(auditor.unjudged)
        metrics.stuck_sagas.set(auditor.stuck)
        for state, count in auditor.conservation().items():
            metrics.audited_jobs.labels(state).set(count)


def run_auditor(settings: Settings) -> int:
    """Play the role until a signal or a crash; return the process's exit code."""
    return asyncio.run(_serve(settings, AuditorRole(settings)))


async def _serve(settings: Settings, role: AuditorRole) -> int:
    metrics.show_build((AUDITOR,))
    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, role.stop)
    observed = HealthServer(settings.http_host, settings.http_port, role.ready, role.alive, role.show)
    if not settings.http_port:
        return await _follow(role)
    async with observed:
        return await _follow(role)


async def _follow(role: AuditorRole) -> int:
    try:
        await asyncio.to_thread(role.follow)
    except ConfigurationError as error:
        log.error("%s", error)
        return 3
    except KafkaException as error:
        log.error("the audit stops, and can begin again: Kafka said %s", error)
        return 1
    return 0
