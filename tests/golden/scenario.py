"""One run of the whole engine over the sample shop in which everything happens once: what golden logs are recorded from.

Faults that pass and faults that don't, a duplicate, a refusal, poison, a cancel, a parked job that is resumed and then
skipped, a redrive, a job that is forgotten, and a coordinator that is killed on the way.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from processors.auditor.follow import Beginning
from processors.demo.observations import saga_states
from processors.demo.sample_servers import SampleServers
from processors.kafka.reader import Reader
from processors.kafka.sync_producer import SyncProducer
from processors.local.engine import LocalEngine
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.messages.wire import encode_event
from processors.operations.queries import read_plans
from processors.saga.events import Cancelled, Redriven, Resumed, ResumeMode
from processors.settings.settings import Settings
from topics.catalogue import Catalogue

PREFIX = "golden"
TOKEN = "GOLDEN_API_TOKEN"
PRODUCTS = 16
# Two cores start seven processes in some ten seconds, and others may want them too.
PATIENCE_S = 120.0
NOBODY = "http://127.0.0.1:9"
# What must not be seen where it doesn't belong.
PASSWORD = "hunter2-password"
QUERY = "hunter2-query"
ENDED = frozenset({"COMPLETED", "COMPENSATED"})


def pipelines(world: SampleServers) -> list[dict[str, Any]]:
    """Return the pipelines: the ordinary one, and one for each thing that seldom happens."""
    retry = {"attempts": 6, "base": "100ms", "cap": "500ms"}
    fetch = {"use": "fetch", "timeout": "5s", "retry": retry}
    parse = {"use": "parse", "with": {"fields": {"title": {"css": ["h1", "title"]}}, "preset": "product"}}
    missing = {"use": "parse", "name": "again", "with": {"fields": {"gtin": {"css": ".no-such", "required": True}}}}

    def enrich(cancel: str) -> dict[str, Any]:
        return {
            "use": "enrich",
            "timeout": "5s",
            "retry": retry,
            "undo": {"timeout": "2s", "retry": {"attempts": 2, "base": "50ms"}},
            "with": {
                "url": f"{world.api_url}/enrich",
                "auth": {"bearer": TOKEN, "origins": sorted({world.api_url, cancel})},
                "cost": "0.002",
                "response": {"category": "category"},
                "cancel": {"url": f"{cancel}/cancel", "body": {"key": "{key}"}},
            },
        }

    notify = {"use": "notify"}
    return [
        {"name": "shop", "record": "product", "steps": [fetch, parse, enrich(world.api_url), notify]},
        {"name": "undone", "record": "product", "steps": [fetch, parse, enrich(world.api_url), missing]},
        {"name": "parks", "record": "product", "steps": [fetch, parse, enrich(NOBODY), missing]},
        {"name": "brief", "record": "product", "retention": "1s", "steps": [fetch, parse, notify]},
        {
            "name": "waits",
            "record": "product",
            "steps": [{"use": "fetch", "retry": {"base": "10m", "cap": "1h", "total": "2h"}}],
        },
    ]


@dataclass(frozen=True, slots=True)
class Run:
    """A running engine, and how to look at it and to ask it for things."""

    engine: LocalEngine
    world: SampleServers
    reader: Reader
    settings: Settings
    catalogue: Catalogue

    @property
    def client(self) -> dict[str, str]:
        """Settings of a confluent client."""
        return self.engine.client

    def beginning(self, since_ms: int = 0) -> Beginning:
        """Return what an audit of this run reads."""
        return Beginning(self.catalogue, since_ms, self.settings.retention_history, self.settings.retention_commands)

    def send(self, topic: str, value: bytes | None, **where: Any) -> None:
        """Append a record to a topic by its short name."""
        sender = SyncProducer(self.client)
        sender.send(self.catalogue.topic(topic).name, value, **where)
        sender.finish()

    def submit(self, job_id: str, pipeline: str, url: str = "", label: str = "golden") -> None:
        """Ask for a page; by default a good one."""
        request = ScrapeRequest(url or self.good_url(), pipeline=pipeline, job_id=job_id, label=label)
        self.send("urls", encode_request(request))

    def good_url(self) -> str:
        """Return a page that is as it should be."""
        numbered = enumerate(self.world.urls(), 1)
        return next(url for number, url in numbered if self.world.expected(number).outcome == "completed")

    def states(self) -> dict[str, dict[str, Any]]:
        """Return the latest state of every job."""
        return saga_states(Reader(self.client), self.catalogue.sagas.name)

    def phase(self, job_id: str) -> str:
        """Return a job's phase, or an empty string."""
        return str(self.states().get(job_id, {}).get("phase", ""))

    def wait_for(self, condition: Callable[[dict[str, dict[str, Any]]], bool], what: str) -> None:
        """Return once the states fulfil a condition."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition(self.states()):
            if time.monotonic() > give_up:
                raise TimeoutError(f"{what} took over {PATIENCE_S:.0f} s; states: {self.phases()}")
            time.sleep(0.3)

    def phases(self) -> dict[str, str]:
        """Return every job's phase."""
        return {job: str(state["phase"]) for job, state in self.states().items()}

    def wait_until_ended(self) -> None:
        """Return once no job moves any more."""
        moving = {"RUNNING", "COMPENSATING"}
        self.wait_for(lambda states: not any(state["phase"] in moving for state in states.values()), "ending all jobs")


@contextmanager
def started(folder: Path) -> Iterator[Run]:
    """Start the shop, the API and the engine; stop them in the end."""
    with SampleServers(folder / "world", seed=7, products=PRODUCTS, fault_rate=0.2, permanent_rate=0.1) as world:
        files = folder / "pipelines"
        files.mkdir(parents=True)
        for one in pipelines(world):
            (files / f"{one['name']}.yaml").write_text(yaml.safe_dump(one, sort_keys=False), "utf-8")
        engine = LocalEngine(
            folder / "engine",
            [files],
            # No step loads anything: no warehouse is started.
            clickhouse_url=NOBODY,
            settings={
                "SCRAPESAGA_TOPIC_PREFIX": PREFIX,
                "SCRAPESAGA_PARTITIONS": "2",
                "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
                # Whatever is logged at all is searched for secrets.
                "SCRAPESAGA_LOG_LEVEL": "debug",
            },
            extra={TOKEN: world.api_token},
        )
        with engine:
            reader = Reader(engine.client)
            settings = engine.settings()
            yield Run(engine, world, reader, settings, settings.catalogue(reader.steps(PREFIX)))


def play(run: Run) -> None:
    """Let everything happen once, in an order that each run keeps."""
    for number, url in enumerate(run.world.urls(), 1):
        run.submit(f"shop-{number:02}", "shop", url)
    run.submit("query", "shop", f"{run.world.shop_url}/nowhere?token={QUERY}")
    run.submit("userinfo", "shop", f"http://me:{PASSWORD}@127.0.0.1/")
    run.submit("brief", "brief")
    run.submit("undone", "undone")
    run.submit("parks", "parks")
    run.submit("waits", "waits", f"{NOBODY}/")
    _poison(run)
    kill_coordinator(run)
    run.wait_for(lambda states: "waits" in states and _waits(states["waits"]), "a wait")
    run.send("events", encode_event(Cancelled("waits", "ann", "wrong list")), key=b"waits")
    run.wait_until_ended()
    run.submit("shop-01", "shop", run.world.urls()[0])
    run.submit("shop-01", "shop", run.world.urls()[1])
    run.wait_for(lambda states: states["parks"]["phase"] == "PARKED", "parking")
    run.send("events", encode_event(Resumed("parks", ResumeMode.RETRY, "ann")), key=b"parks")
    run.wait_for(
        lambda states: states["parks"]["phase"] == "PARKED" and len(states["parks"]["operator_actions"]) == 1,
        "parking again",
    )
    run.send("events", encode_event(Resumed("parks", ResumeMode.SKIP, "ann", "cancelled by hand")), key=b"parks")
    run.wait_for(lambda states: states["parks"]["phase"] == "COMPENSATED", "skipping")
    redrive(run)
    run.wait_until_ended()
    run.wait_for(lambda states: "brief" not in states, "forgetting")


def redrive(run: Run) -> None:
    """Parse a completed job's page again, without a fetch."""
    job = next(job for job, phase in sorted(run.phases().items()) if phase == "COMPLETED")
    plan = read_plans(Reader(run.client), run.catalogue.plans.name).current("shop")
    if plan is None:
        raise LookupError("no plan of pipeline shop was published")
    before = run.states()[job]["run"]
    run.send("events", encode_event(Redriven(job, "parse", plan, "ann", "new selectors")), key=job.encode())
    run.wait_for(lambda states: states[job]["run"] == before + 1 and states[job]["phase"] in ENDED, "redriving")


def kill_coordinator(run: Run) -> None:
    """End the coordinator by SIGKILL while jobs run; its supervisor starts another."""
    run.wait_for(lambda states: len(states) > 5, "beginning")
    pid = run.engine.supervisor.states()["coordinator"].pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def _poison(run: Run) -> None:
    run.send("urls", b"not a request", key=b"poison")
    run.send("events", b"not an event", key=b"poison")


def _waits(state: Mapping[str, Any]) -> bool:
    """True if a retry waits for its time: one attempt was made, and no command is out."""
    flights = [step["in_flight"] for step in state["steps"] if step["in_flight"] is not None]
    return any(flight["attempt"] == 1 and not flight["command_seq"] for flight in flights)
