"""`python -m tests.chaos`: a whole engine under load, broken for minutes by a seeded schedule, then judged from outside.

The schedule, the load's choices, the shop and the API follow from the seed. What real processes make of it does not: a
run with the same seed breaks the same things at the same seconds, and meets other records in flight. So a failure keeps
its folder: logs, topics and the ledger show what happened.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from processors.demo import observations as outside
from processors.demo.demo import LATE_CHARGE_RATE, LATE_CHARGE_SECONDS, PIPELINE, STEPS, demo_pipeline, hasty
from processors.demo.sample_servers import SampleServers
from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.process.roles import COORDINATOR, INTAKE
from tests.chaos.asking import divergences, lags, scrapesaga
from tests.chaos.faults import Committer
from tests.chaos.load import Load
from tests.chaos.schedule import KILLS, Kind, schedule
from tests.chaos.verdict import Check, Seen, conservation, judge

SESSION_S = 6.0
PAID = ("enrich", "classify")
# Faults of the shop and the API that are there all along, besides the faults.
FAULT_RATE, PERMANENT_RATE = 0.1, 0.03


@dataclass(frozen=True, slots=True)
class Options:
    """How long, how hard, and where."""

    minutes: float
    seed: int
    folder: Path
    in_flight: int = 40
    # Two cores that start eight processes again need a minute; what is lost would be lost after an hour, too.
    drain_s: float = 240.0
    least_kills: int = 0
    # The paid API charges some calls after they were cancelled in vain.
    late_charges: bool = False


def run(options: Options) -> int:
    """Run, print the verdict, write report.json; return 0 if no promise was broken, else 4."""
    console = Console(width=120)
    folder = options.folder.absolute()
    folder.mkdir(parents=True)
    console.print(f"seed {options.seed}, {options.minutes:g} minutes; everything is in {folder}")
    with SampleServers(
        folder / "world",
        seed=options.seed,
        # The load takes one after the other and never comes to the end.
        products=1_000_000,
        fault_rate=FAULT_RATE,
        permanent_rate=PERMANENT_RATE,
        late_charge_rate=LATE_CHARGE_RATE if options.late_charges else 0.0,
        late_charge_seconds=LATE_CHARGE_SECONDS,
    ) as world:
        pipeline = folder / "demo.yaml"
        plan = hasty(demo_pipeline(world)) if options.late_charges else demo_pipeline(world)
        pipeline.write_text(yaml.safe_dump(_impatient(plan), sort_keys=False), "utf-8")
        engine = LocalEngine(
            folder / "engine",
            [pipeline],
            settings={
                "SCRAPESAGA_TOPIC_PREFIX": "chaos",
                "SCRAPESAGA_SESSION_TIMEOUT": f"{SESSION_S:g}s",
                "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
                "SCRAPESAGA_CLICKHOUSE_DATABASE": "default",
            },
            extra={"DEMO_API_TOKEN": world.api_token},
            clickhouse_faults=True,
        )
        with engine:
            report = _under_chaos(console, engine, world, options)
    (folder / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n", "utf-8")
    if report["broken"]:
        console.print(f"[red]FAILED[/red] seed {options.seed}; logs and topics are kept in {folder}")
        console.print(f"the same faults again: make chaos MINUTES={options.minutes:g} SEED={options.seed}")
        return 4
    shutil.rmtree(folder / "engine", ignore_errors=True)
    shutil.rmtree(folder / "world", ignore_errors=True)
    console.print(
        f"[green]PASSED[/green] seed {options.seed}: {report['kills']} kills, nothing lost, half-written or paid twice"
    )
    return 0


def _impatient(pipeline: dict[str, Any]) -> dict[str, Any]:
    """Return the pipeline with waits that fit into minutes: a compensation waits at most seconds for its next try."""
    for step in pipeline["steps"]:
        step.setdefault("timeout", "10s")
        step.setdefault("retry", {"attempts": 12, "base": "200ms", "cap": "3s"})
        step["undo"] = {"timeout": "5s", "retry": {"attempts": 40, "base": "200ms", "cap": "2s"}}
    return pipeline


def _under_chaos(console: Console, engine: LocalEngine, world: SampleServers, options: Options) -> dict[str, Any]:
    seconds = options.minutes * 60
    roles = (COORDINATOR, INTAKE, *STEPS)
    load = Load(engine, world, PIPELINE, seed=options.seed, in_flight=options.in_flight)
    committer = Committer(engine, world)
    load.start()
    committer.run(schedule(options.seed, seconds, roles, SESSION_S), seconds)
    load.stop_submitting()
    began = time.monotonic()
    resumed = _drain(engine, load, options.drain_s)
    drained_s = time.monotonic() - began
    load.close()
    seen = _look(engine, world, load, committer)
    checks = judge(seen)
    kills = sum(committer.committed[kind] for kind in KILLS)
    if kills < options.least_kills:
        few = f"{kills} kills; at least {options.least_kills} were asked for"
        checks = (*checks, Check("the run was as hard as it had to be", (few,)))
    _print(console, options, committer.committed, checks, seen)
    console.print(
        f"{conservation(seen)}; {load.repeats} repeated submissions, {len(load.cancelled)} cancelled, "
        f"{resumed} resumed; drained in {drained_s:.0f} s"
    )
    return {
        "seed": options.seed,
        "minutes": options.minutes,
        "kills": kills,
        "faults": {kind.value: committer.committed[kind] for kind in Kind},
        "jobs": dict(Counter(str(state["phase"]) for state in seen.states.values())),
        "accepted": len(seen.accepted),
        "drained_s": round(drained_s, 1),
        "checks": {check.promise: len(check.broken) for check in checks},
        "broken": {check.promise: check.broken[:20] for check in checks if check.broken},
        "history": committer.notes,
    }


def _drain(engine: LocalEngine, load: Load, within_s: float) -> int:
    """Wait until every job has ended and nobody lags; resume what is parked, as an operator would. Returns how many."""
    give_up = time.monotonic() + within_s
    resumed: set[str] = set()
    while time.monotonic() < give_up:
        for job in load.parked_jobs():
            if job not in resumed:
                resumed.add(job)
                scrapesaga(engine, "resume", job, "--reason", "the faults are over")
        if not load.open_jobs() and not any(lags(engine, STEPS).values()):
            break
        time.sleep(1)
    return len(resumed)


def _look(engine: LocalEngine, world: SampleServers, load: Load, committer: Committer) -> Seen:
    outside.wait_for_late_charges(world.api_url, LATE_CHARGE_SECONDS)
    reader = Reader(engine.client)
    prefix = engine.settings().topic_prefix
    return Seen(
        accepted=load.accepted,
        states=outside.saga_states(reader, f"{prefix}.sagas"),
        warehouse=outside.warehouse_jobs(engine.warehouse, f"{PIPELINE}_live"),
        records=outside.live_keys(reader, f"{prefix}.records"),
        pages=outside.live_keys(reader, f"{prefix}.pages"),
        invoices=outside.invoices(world.api_url),
        paid_steps=PAID,
        letters=outside.dead_letters(reader, f"{prefix}.dead-letters"),
        poison=frozenset(committer.poison),
        cancelled=frozenset(load.cancelled),
        lags=lags(engine, STEPS),
        divergences=divergences(engine, committer.poison),
    )


def _print(console: Console, options: Options, committed: Counter[Kind], checks: tuple[Check, ...], seen: Seen) -> None:
    table = Table("fault", "count", "seed", title="what was broken", title_justify="left")
    for kind in Kind:
        table.add_row(kind.value, str(committed[kind]), str(options.seed))
    console.print(table)
    verdict = Table("promise", "broken", title="verdict, from outside", title_justify="left")
    for check in checks:
        verdict.add_row(check.promise, f"[red]{len(check.broken)}[/red]" if check.broken else "0")
    console.print(verdict)
    for check in checks:
        for case in check.broken[:5]:
            console.print(f"  [red]{check.promise}[/red]: {case}", soft_wrap=True, highlight=False)
