"""The role `auditor`: reads the topics, exports metrics of what it finds, and writes to no topic."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import timedelta

from confluent_kafka import KafkaException

from processors.auditor.follow import Beginning, Follower
from processors.auditor.throttled_log import ThrottledLog
from processors.auditor.violations import Invariant, label_of
from processors.errors import ScrapesagaError
from processors.kafka.credentials import kafka_client
from processors.kafka.reader import Reader
from processors.observability import metrics
from processors.process.role import STEP, Process, Role
from processors.saga.invariants import Violation
from processors.settings.settings import Settings
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

# A thread that reads nothing looks up this often; silent for much longer, it hangs.
SILENT_S = 60.0


def beginning(settings: Settings, catalogue: Catalogue, since: timedelta) -> Beginning:
    """Return where an audit begins that reaches back so far; 0: all that is there."""
    since_ms = int((time.time() - since.total_seconds()) * 1000) if since else 0
    return Beginning(catalogue, since_ms, settings.retention_history, settings.retention_commands)


class LiveAuditor:
    """Follows the topics in a thread of its own, until it is stopped."""

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
        """Audit until stopped. Raises ConfigurationError, or ScrapesagaError that says what Kafka said."""
        try:
            self._follow()
        except KafkaException as error:
            raise ScrapesagaError(f"the audit stopped, restart it: Kafka reported {error}") from error

    def _follow(self) -> None:
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

    async def run(self) -> None:
        """Follow until cancelled, and return only once nothing is read any more."""
        following = asyncio.ensure_future(asyncio.to_thread(self.follow))
        try:
            await asyncio.shield(following)
        finally:
            self._stop.set()
            await asyncio.wait([following])


def _start(process: Process) -> None:
    auditor = LiveAuditor(process.settings)
    process.add_service(AUDITOR.name, auditor.run)
    process.add_probes(auditor.ready, auditor.alive)
    process.add_before_scrape(auditor.show)


AUDITOR = Role(
    name="auditor",
    does="reads all topics, and reports each violation of an invariant",
    reads=("urls", "events", "sagas", "plans", f"{STEP}.commands", "records", "spend", "dead-letters"),
    writes=(),
    start=_start,
    settings=("audit_since",),
    alone=True,
    ready_when="the plans and the sagas in flight are read",
    restarted_when=f"nothing was read for {SILENT_S:.0f} s",
)
