"""`scrapesaga demo`: the engine, a sample shop and a sample paid API; a few hundred jobs, and a verdict from outside."""

from __future__ import annotations

import shutil
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import KafkaException, Producer
from rich.box import HORIZONTALS
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from processors.demo import observations as outside
from processors.demo.kills import check_targets, kill
from processors.demo.sample_servers import SampleServers
from processors.demo.verdict import DemoVerdict, Observed, judge
from processors.errors import ConfigurationError
from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.messages.scrape_request import ScrapeRequest, canonical_url, derived_job_id, encode_request
from processors.process.roles import COORDINATOR, INTAKE

PIPELINE = "demo"
# Without a job's end for so long nothing more comes: faults that pass need several attempts, a second or so apart, and a
# kill costs the session timeout, a start on a busy machine, and a rebalance.
GIVE_UP_S = 180.0
# With late charges, one paid call in so many ends so late: after all attempts of `hasty` steps, and their cancellation.
LATE_CHARGE_RATE, LATE_CHARGE_SECONDS = 0.05, 30.0
MOST_REASONS = 6
STEPS = ("fetch", "parse", "enrich", "classify", "load", "notify")


def demo_pipeline(world: SampleServers) -> dict[str, Any]:
    """Return the demo's pipeline: two paid steps, one of which can be taken back at the API."""
    retry = {"attempts": 8, "base": "200ms", "cap": "2s"}

    def paid(name: str, cost: str, fields: list[str]) -> dict[str, object]:
        return {
            "use": "enrich",
            "name": name,
            "timeout": "5s",
            "retry": retry,
            "undo": {"timeout": "5s", "retry": {"base": "200ms", "cap": "2s"}},
            "with": {
                "url": f"{world.api_url}/{name}",
                "auth": {"bearer": "DEMO_API_TOKEN"},
                "cost": cost,
                "response": {field: field for field in fields},
                "cancel": {"url": f"{world.api_url}/cancel", "body": {"key": "{key}"}},
            },
        }

    return {
        "name": PIPELINE,
        "record": "product",
        "steps": [
            {"use": "fetch", "timeout": "10s", "retry": retry},
            {"use": "parse", "with": {"preset": "product", "fields": {"price": PRICE}}},
            paid("enrich", "0.002", ["category", "brand_normalised", "price_eur"]),
            paid("classify", "0.001", ["label", "confidence"]),
            {"use": "load"},
            {"use": "notify"},
        ],
    }


def hasty(pipeline: dict[str, Any]) -> dict[str, Any]:
    """Return the pipeline with paid steps that give a product up long before it is charged late, and then cancel it."""
    for step in pipeline["steps"]:
        if step["use"] == "enrich":
            step |= {"timeout": "3s", "retry": {"attempts": 4, "base": "200ms", "cap": "1s"}}
    return pipeline


# The sample shop leaves the price out of some pages: without it a record is worth nothing here.
PRICE = {
    # A page that sells several variants states the lowest price only.
    "jsonld": ["Product.offers.price", "Product.offers.lowPrice"],
    "microdata": "price",
    "meta": ["product:price:amount", "og:price:amount"],
    "css": [".price"],
    "type": "money",
    "required": True,
}


def run_demo(
    *,
    urls: int,
    fault_rate: float,
    data_dir: Path,
    seed: int = 1,
    keep: bool = False,
    kills: Sequence[str] = (),
    late_charges: bool = False,
) -> int:
    """Run the demo; return 0 if the verdict is clean, else 4. Its data goes with a clean verdict, unless `keep`.

    Each of `kills`, a role, "broker" or "clickhouse", is ended by SIGKILL on the way, spread evenly over the jobs.
    With `late_charges` the paid API charges some products long after the steps have given them up, and after the
    cancellation found nothing to take back. Raises LocalError, before anything starts for a name that there isn't.
    """
    check_targets(kills, (INTAKE, COORDINATOR, *STEPS))
    console = Console()
    folder = data_dir.absolute() / "demo" / f"{seed}-{urls}-{time.strftime('%Y%m%d%H%M%S')}"
    folder.mkdir(parents=True)
    with SampleServers(
        folder / "world",
        seed=seed,
        products=urls,
        fault_rate=fault_rate,
        permanent_rate=0.02,
        late_charge_rate=LATE_CHARGE_RATE if late_charges else 0.0,
        late_charge_seconds=LATE_CHARGE_SECONDS,
    ) as world:
        pipeline = folder / "demo.yaml"
        plan = hasty(demo_pipeline(world)) if late_charges else demo_pipeline(world)
        pipeline.write_text(yaml.safe_dump(plan, sort_keys=False), "utf-8")
        engine = LocalEngine(
            data_dir / "demo" / "engine",
            [pipeline],
            settings={
                "SCRAPESAGA_TOPIC_PREFIX": f"demo-{folder.name}",
                "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
                "SCRAPESAGA_CLICKHOUSE_DATABASE": "default",
            },
            extra={"DEMO_API_TOKEN": world.api_token},
        )
        started = time.monotonic()
        with console.status("starting Kafka, ClickHouse and every role ..."):
            engine.start()
        try:
            logs = _from_here(engine.data_dir / "logs")
            console.print(f"up after {time.monotonic() - started:.1f} s; logs are in {logs}", highlight=False)
            status = _run(console, engine, world, kills)
        finally:
            engine.stop()
    if status == 0 and not keep:
        shutil.rmtree(data_dir / "demo", ignore_errors=True)
    return status


def _from_here(path: Path) -> Path:
    """Return the path relative to the working directory where it lies in it, as a person would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _run(console: Console, engine: LocalEngine, world: SampleServers, kills: Sequence[str]) -> int:
    settings = engine.settings()
    client = engine.client
    prefix = settings.topic_prefix
    expected: dict[str, str] = {}
    producer = Producer({**client, "acks": "all", "enable.idempotence": True})
    for number, url in enumerate(world.urls(), 1):
        expected[derived_job_id(PIPELINE, canonical_url(url))] = world.expected(number).outcome
        producer.produce(f"{prefix}.urls", value=encode_request(ScrapeRequest(url=url, label="demo")))
    producer.flush(30)
    # Left open, it would report the broker's end on standard error.
    del producer
    began = time.monotonic()
    reader = Reader(client)
    _follow(console, engine, reader, f"{prefix}.sagas", len(expected), kills)
    took = time.monotonic() - began
    outside.wait_for_late_charges(world.api_url, LATE_CHARGE_SECONDS)
    states = outside.saga_states(reader, f"{prefix}.sagas")
    records = outside.compacted(reader, f"{prefix}.records")
    letters = outside.dead_letters(reader, f"{prefix}.dead-letters")
    rejected = sum(place.topic == f"{prefix}.urls" for place in letters)
    verdict = judge(
        Observed(
            expected=expected,
            phases={job: str(state["phase"]) for job, state in states.items()},
            rejected=rejected,
            set_aside=len(letters) - rejected,
            warehouse=outside.warehouse_jobs(engine.warehouse, f"{PIPELINE}_live") & expected.keys(),
            records=frozenset(key.decode() for key in records),
            invoices=outside.invoices(world.api_url),
            reasons={job: f"{state['failed_step']}: {state['reason']}" for job, state in states.items()},
        )
    )
    _print(console, verdict, took)
    return 4 if verdict.problems else 0


def _follow(console: Console, engine: LocalEngine, reader: Reader, topic: str, jobs: int, kills: Sequence[str]) -> None:
    """Show progress until every job has ended, or none does any more; kill what is to be killed on the way."""
    most, give_up = 0, time.monotonic() + GIVE_UP_S
    # The first of two when a third of the work is done, the second at two thirds.
    upcoming = deque((jobs * place / (len(kills) + 1), target) for place, target in enumerate(kills, 1))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TextColumn("{task.fields[phases]}"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("sagas", total=jobs, phases="")
        while time.monotonic() < give_up:
            states = _states(reader, topic, patient=bool(kills))
            phases = Counter(str(state["phase"]) for state in states)
            ended = phases["COMPLETED"] + phases["COMPENSATED"] + phases["PARKED"]
            shown = " ".join(f"{phase.lower()} {count}" for phase, count in sorted(phases.items()))
            progress.update(task, completed=ended, phases=shown)
            if ended >= jobs and not upcoming:
                return
            if ended > most:
                most, give_up = ended, time.monotonic() + GIVE_UP_S
            # Counted in steps: many jobs run at a time, and hardly one ends before the others do.
            if upcoming and sum(map(_share_done, states)) >= upcoming[0][0]:
                target = upcoming.popleft()[1]
                pid = kill(engine, target)
                progress.console.print(
                    f"[bold red]kill -9[/bold red] {target} (pid {pid}); {ended} of {jobs} jobs had ended",
                    highlight=False,
                )
            time.sleep(0.5 if upcoming else 1)


def _share_done(state: Mapping[str, Any]) -> float:
    if state["phase"] != "RUNNING":
        return 1.0
    done = sum(step["status"] in ("SUCCEEDED", "REUSED") for step in state["steps"])
    return done / len(state["steps"])


def _states(reader: Reader, topic: str, *, patient: bool) -> list[Mapping[str, Any]]:
    """Return the state of every job; if `patient`, none at all while Kafka is away."""
    try:
        return [*outside.saga_states(reader, topic).values()]
    except (KafkaException, ConfigurationError):
        if not patient:
            raise
        return []


def _print(console: Console, verdict: DemoVerdict, took_s: float) -> None:
    table = Table("verdict, computed from outside the engine", box=HORIZONTALS)
    table.add_column("count", justify="right")
    for group in _rows(verdict):
        for name, value, expected in group:
            style = "" if expected is None else "green" if value == expected else "bold red"
            table.add_row(name, f"[{style}]{value}[/{style}]" if style else str(value))
        table.add_section()
    console.print(table)
    if verdict.reasons:
        reasons = Table("compensated because", box=HORIZONTALS)
        reasons.add_column("jobs", justify="right")
        for reason, count in Counter(dict(verdict.reasons)).most_common(MOST_REASONS):
            reasons.add_row(Text(reason, no_wrap=True, overflow="ellipsis"), str(count))
        console.print(reasons)
    rate = verdict.accepted / max(took_s, 0.001)
    console.print(f"{verdict.accepted} sagas in {took_s:.1f} s ({rate:.1f} sagas/s)", highlight=False)
    if verdict.problems:
        for problem in verdict.problems:
            console.print(f"[bold red]FAILED[/bold red] {problem}", highlight=False)
    else:
        console.print("[bold green]PASSED[/bold green] nothing half-written, nothing paid twice, nothing lost")


def _rows(verdict: DemoVerdict) -> tuple[tuple[tuple[str, int, int | None], ...], ...]:
    """Return the counts in groups: a name, the count, and the count that a clean run has where there is one."""
    jobs = (
        ("jobs accepted", verdict.accepted, None),
        ("completed", verdict.completed, None),
        ("compensated", verdict.compensated, None),
        ("parked", verdict.parked, 0),
    )
    effects = (
        ("rows in ClickHouse", verdict.in_warehouse, verdict.completed),
        ("records on the downstream topic", verdict.on_topic, verdict.completed),
        ("paid calls", verdict.paid_calls, None),
    )
    faults = (
        ("half-written records", verdict.half_written, 0),
        ("calls paid twice", verdict.paid_twice, 0),
        ("calls paid for compensated jobs", verdict.paid_for_nothing, 0),
        ("jobs unaccounted for", verdict.unaccounted, 0),
        ("records set aside by the engine", verdict.set_aside, 0),
        ("jobs with an unexpected end", verdict.unexpected, 0),
    )
    return jobs, effects, faults
