"""What a role is, and what a process offers to the roles that it plays.

A role is declared once: what it is called, which topics it reads and writes, how it is made. `worker`, `up`, the reference
of roles, and the tests of the chart and of the catalogue of topics go by these declarations. A package may bring a role of
its own, by the entry-point group `scrapesaga.roles`: see docs/custom-roles.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from processors.kafka.credentials import kafka_client
from processors.kafka.log import KafkaLog
from processors.kafka.producer import Producer
from processors.kafka.record import Batch
from processors.observability import metrics
from processors.observability.otlp import SpanQueue, open_spans
from processors.pipeline.plan_store import Plans
from processors.process.apps import new_producer, role_app
from processors.process.health_server import HealthServer
from processors.saga.plan import Plan
from processors.settings.settings import Settings
from processors.transport.app import StreamApp, alive, raw_topic, ready, run_apps
from processors.transport.batches import batches
from processors.transport.lag import lag_of
from topics.catalogue import Catalogue, Topic

#: Stands for a step's name in the topics of Role.reads and Role.writes.
STEP = "<step>"

Work = Callable[[AsyncIterator[Batch]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One thing that a process can do, as everybody has to know it.

    `reads`, `writes` and `scales_by` are topics by their short names. `settings` are the fields of Settings that the role
    reads besides those that every process reads.
    """

    name: str
    does: str
    """In a sentence, for people."""
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    start: Callable[[Process], None]
    """Makes the role in a process: called once, before anything runs."""
    settings: tuple[str, ...] = ()
    scales_by: str = ""
    """The topic whose lag says how many processes there should be; empty: one is enough, a second does nothing more."""
    kind: str = ""
    """What the role is called among roles that are alike: the chart's label, part of its group's name. `name` if empty."""
    stateful: bool = False
    """Keeps what it has read on disk: a place of its own for each process, and no process added for a moment's load."""
    alone: bool = False
    """Needs a process of its own."""
    calls_outside: bool = False
    """Calls what is neither Kafka nor the schema registry: sites, paid APIs, warehouses."""
    ready_when: str = "its partitions are assigned, its agent runs, commits succeed"
    restarted_when: str = "nothing was fetched for 60 s, a record is in work for 15 minutes, or the agent has ended"

    @property
    def group(self) -> str:
        """The role's part of its consumer group's name."""
        return self.name if self.kind in ("", self.name) else f"{self.kind}:{self.name}"

    def topics(self, catalogue: Catalogue) -> tuple[tuple[Topic, ...], tuple[Topic, ...]]:
        """Return what the role reads and what it writes. Raises UnknownTopic."""

        def of(names: Sequence[str]) -> tuple[Topic, ...]:
            steps = (self.name,) if self.kind == "step" else catalogue.steps
            every = (name.replace(STEP, step) for name in names for step in (steps if STEP in name else ("",)))
            return tuple(catalogue.topic(name) for name in dict.fromkeys(every))

        return of(self.reads), of(self.writes)


class Process:
    """What the roles of one process share, and what they add to it: agents, resources, services, probes.

    One producer, one store of plans, one health server with one page of metrics, however many roles. What no role asks
    for isn't made.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, pipelines: Mapping[str, Plan], roles: Sequence[str]
    ) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.pipelines = pipelines
        self._roles = tuple(roles)
        self._apps: list[StreamApp] = []
        self._resources: list[AbstractAsyncContextManager[object]] = []
        self._services: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._ready: list[Callable[[], list[str]]] = []
        self._alive: list[Callable[[], list[str]]] = []
        self._before_scrape: list[Callable[[], Awaitable[None]]] = []
        self._publishes_plans = False

    # --- what roles share ---------------------------------------------------------------------------------------

    @cached_property
    def producer(self) -> Producer:
        """The process's producer."""
        made = new_producer(self.settings, "scrapesaga-" + "-".join(self._roles)[:80], self.catalogue)
        self._resources.append(made)
        return made

    @cached_property
    def plans(self) -> Plans:
        """The plans that sagas are pinned to, read once before any role starts."""
        log = KafkaLog(self.catalogue.plans.name, self.producer, kafka_client(self.settings))
        plans = Plans(log)
        self._resources.append(self._read_plans(log, plans))
        return plans

    def publish_plans(self) -> Plans:
        """Have the pipelines' plans published before any role starts: a submission must never name one that isn't there."""
        self._publishes_plans = True
        return self.plans

    @cached_property
    def spans(self) -> SpanQueue | None:
        """Where spans go; None without a collector."""
        if not self.settings.otel_endpoint:
            return None
        made = open_spans(self.settings.otel_endpoint, self._roles)
        self._resources.append(made)
        return made

    # --- what roles add -----------------------------------------------------------------------------------------

    def app(self, role: Role) -> StreamApp:
        """Return a new Faust app in the role's consumer group; a role needs one, with an agent for each topic that it reads."""
        made = role_app(self.settings, role.group, standbys=role.stateful)
        self._apps.append(made)
        self.add_probes(lambda: ready(made), lambda: alive(made))
        return made

    def add_agent(self, app: StreamApp, topic: Topic, work: Work) -> None:
        """Have `work` iterate batches of a topic. It calls done() of each batch; what it raises ends the process."""

        async def agent(stream: Any) -> None:
            await work(batches(stream))

        app.agent(raw_topic(app, topic.name), name=f"{app.conf.id} of {topic.short_name}")(agent)

    def add_resource(self, resource: AbstractAsyncContextManager[object]) -> None:
        """Enter a context before any agent runs, and leave it after all have stopped."""
        self._resources.append(resource)

    def add_service(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run something beside agents until the process stops, which cancels it; that it ends or raises ends the process."""
        self._services.append((name, run))

    def add_probes(self, ready: Callable[[], list[str]], alive: Callable[[], list[str]]) -> None:
        """Have /ready and /live tell these reasons against; empty lists are good news."""
        self._ready.append(ready)
        self._alive.append(alive)

    def add_before_scrape(self, show: Callable[[], Awaitable[None]]) -> None:
        """Bring metrics up to date that nothing keeps up meanwhile; bounded in time."""
        self._before_scrape.append(show)

    # --- running ------------------------------------------------------------------------------------------------

    def run(self, on_ready: Callable[[], Awaitable[None]]) -> int:
        """Run until a signal or a crash; return the process's exit code."""
        metrics.show_build(self._roles)
        if self.settings.http_port:
            host, port = self.settings.http_host, self.settings.http_port
            ready, alive = _all(self._ready), _all(self._alive)
            self._resources.append(HealthServer(host, port, ready, alive, self._bring_up_to_date))
        return run_apps(
            self._apps,
            resources=self._resources,
            services=self._services,
            on_ready=on_ready,
            stop_within=self.settings.drain_timeout * 1.2,
        )

    @asynccontextmanager
    async def _read_plans(self, log: KafkaLog, plans: Plans) -> AsyncIterator[None]:
        if self._publishes_plans:
            await plans.publish(self.pipelines.values())
        else:
            await plans.refresh()
        try:
            yield
        finally:
            await log.close()

    async def _bring_up_to_date(self) -> None:
        await asyncio.gather(self._show_lag(), *(show() for show in self._before_scrape))

    async def _show_lag(self) -> None:
        found: dict[tuple[str, int], int] = {}
        for lags in await asyncio.gather(*map(lag_of, self._apps)):
            found |= lags
        metrics.show_lag(found)


def _all(probes: Sequence[Callable[[], list[str]]]) -> Callable[[], list[str]]:
    return lambda: [reason for probe in probes for reason in probe()]
