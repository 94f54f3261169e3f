"""A process that plays one or several roles: intake, coordinator, and the steps by name."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from processors.errors import ConfigurationError
from processors.kafka.credentials import kafka_client, kafka_security
from processors.kafka.log import KafkaLog
from processors.kafka.producer import Producer
from processors.observability import metrics
from processors.observability.log_format import configure_logging
from processors.observability.otlp import SpanQueue, open_spans
from processors.observability.tracing import Tracing
from processors.pipeline.pipeline import read_pipelines
from processors.pipeline.plan_store import Plans
from processors.process.apps import new_producer, role_app
from processors.process.auditor import AUDITOR, run_auditor
from processors.process.health_server import HealthServer
from processors.process.host import EngineHost
from processors.process.provisioning import steps_served, verify_topics
from processors.roles.coordinator import Coordinator
from processors.roles.intake import Intake, registry_reader
from processors.roles.step_worker import StepWorker
from processors.saga.plan import Plan
from processors.saga_table.recovery import add_saga_table
from processors.settings.settings import Settings, Transport
from processors.transport.app import StreamApp, alive, raw_topic, ready, run_apps
from processors.transport.batches import batches
from processors.transport.lag import lag_of
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

INTAKE, COORDINATOR = "intake", "coordinator"


def run_roles(settings: Settings, roles: Sequence[str]) -> int:
    """Play roles until a signal or a crash; return the process's exit code. Raises ConfigurationError."""
    configure_logging(settings.log_level.value, settings.log_format.value, settings.secrets())
    pipelines = read_pipelines(settings.pipelines, settings.schemas_dir)
    steps = steps_served(settings, pipelines.values())
    known = (INTAKE, COORDINATOR, AUDITOR, *steps)
    for role in roles:
        if role not in known:
            raise ConfigurationError(f"no role {role!r}; there are: {', '.join(known)}")
    if AUDITOR in roles and len(roles) > 1:
        raise ConfigurationError(f"{AUDITOR} needs a process of its own: it reads all that the others write")
    catalogue = settings.catalogue(steps)
    verify_topics(settings, catalogue)
    if AUDITOR in roles:
        metrics.show_build(roles)
        return run_auditor(settings)
    return _Process(settings, catalogue, pipelines).run(roles)


class _Process:
    """What the roles of one process share: a producer and the plans."""

    def __init__(self, settings: Settings, catalogue: Catalogue, pipelines: dict[str, Plan]) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.pipelines = pipelines
        self.apps: list[StreamApp] = []
        self.resources: list[Any] = []
        self.spans: SpanQueue | None = None

    def run(self, roles: Sequence[str]) -> int:
        producer = new_producer(self.settings, "scrapesaga-" + "-".join(roles)[:80])
        plans_log = KafkaLog(self.catalogue.plans.name, producer, kafka_client(self.settings))
        plans = Plans(plans_log)
        if self.settings.otel_endpoint:
            self.spans = open_spans(self.settings.otel_endpoint, roles)
            self.resources.append(self.spans)
        self.resources += [producer, self._plans(plans_log, plans, INTAKE in roles)]
        for role in roles:
            match role:
                case "intake":
                    self._intake(producer)
                case "coordinator":
                    self._coordinator(producer, plans)
                case step:
                    self._step(step, producer, plans)
        metrics.show_build(roles)
        if self.settings.http_port:
            host, port = self.settings.http_host, self.settings.http_port
            self.resources.append(HealthServer(host, port, self._ready, self._alive, self._show_lag))

        async def announce() -> None:
            log.info("ready", extra={"roles": ",".join(roles)})

        stop_within = self.settings.drain_timeout * 1.2
        return run_apps(self.apps, resources=self.resources, on_ready=announce, stop_within=stop_within)

    @asynccontextmanager
    async def _plans(self, plans_log: KafkaLog, plans: Plans, publishes: bool) -> AsyncIterator[None]:
        # Published before any request is accepted: a submission must never name a plan that isn't there.
        if publishes:
            await plans.publish(self.pipelines.values())
        else:
            await plans.refresh()
        try:
            yield
        finally:
            await plans_log.close()

    def _intake(self, producer: Producer) -> None:
        app = role_app(self.settings, INTAKE)
        registry = registry_reader(self.settings)
        tracing = None if self.spans is None else Tracing(self.spans, self.settings.otel_sample)
        intake = Intake(producer, self.pipelines, self.catalogue, self.settings.default_pipeline, registry, tracing)

        async def accept(stream: Any) -> None:
            async for batch in batches(stream):
                await intake.handle(batch)

        app.agent(raw_topic(app, self.catalogue.urls.name), name="intake")(accept)
        self.apps.append(app)

    def _coordinator(self, producer: Producer, plans: Plans) -> None:
        app = role_app(self.settings, COORDINATOR)
        holder: list[Coordinator] = []
        table = add_saga_table(
            app,
            producer=producer,
            client=kafka_client(self.settings),
            topic=self.catalogue.sagas.name,
            bulk=self.settings.transport is Transport.FAST,
            store=f"{self.settings.store.value}://",
            on_restored=lambda partition, states: holder[0].restored(partition, states),
            on_revoked=lambda partition: holder[0].revoked(partition),
        )
        coordinator = Coordinator(table, producer, plans, self.catalogue, spans=self.spans)
        holder.append(coordinator)

        async def coordinate(stream: Any) -> None:
            async for batch in batches(stream):
                await coordinator.handle(batch)

        app.agent(raw_topic(app, self.catalogue.events.name), name="coordinator")(coordinate)
        app.task(coordinator.fire_timers)
        self.apps.append(app)

    def _step(self, step: str, producer: Producer, plans: Plans) -> None:
        app = role_app(self.settings, f"step:{step}")
        host = EngineHost(step, self.settings, kafka_security(self.settings), self.catalogue, producer)
        limit = self.settings.max_in_flight
        runner = StepWorker(step, host, producer, plans, self.catalogue, max_in_flight=limit, spans=self.spans)

        async def perform(stream: Any) -> None:
            await runner.serve(batches(stream))

        app.agent(raw_topic(app, self.catalogue.commands(step).name), name=f"step-{step}")(perform)
        self.apps.append(app)
        self.resources.append(_closing(runner, host))

    async def _show_lag(self) -> None:
        found: dict[tuple[str, int], int] = {}
        for lags in await asyncio.gather(*(lag_of(app) for app in self.apps)):
            found |= lags
        metrics.show_lag(found)

    def _ready(self) -> list[str]:
        return [reason for app in self.apps for reason in ready(app)]

    def _alive(self) -> list[str]:
        return [reason for app in self.apps for reason in alive(app)]


@asynccontextmanager
async def _closing(runner: StepWorker, host: EngineHost) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await runner.close()
        await host.close()


def main(argv: Sequence[str]) -> int:
    """Play the roles in `argv` with the settings of the environment: what local child processes run."""
    try:
        return run_roles(Settings.from_env(os.environ), argv)
    except ConfigurationError as error:
        log.error("%s", error)
        return 3
