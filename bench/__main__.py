"""Measure the engine on this machine: `python -m bench [--scenarios S1,S2] [--runs 5]`, or `make bench SCENARIOS=S1 RUNS=5`.

    S1 throughput                      S4 kill -9 of the coordinator in mid-load
    S2 one saga at a time              S5 sagas in flight that wait on timers
    S3 every fifth fails and is undone S6 the full pipeline: shop, paid API, ClickHouse
    raw  what confluent-kafka alone does with S1's messages and bytes

Everything runs on two cores, Kafka included. Prints a table, writes bench/results.json and bench/results.png;
rows of scenarios that are not asked for stay there as they are.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from bench import peer, shop, waiting
from bench.engine import LAYOUTS, BenchEngine
from bench.profile import profiled, table
from bench.rows import ResultRow, earlier, plot, save, show
from bench.scenarios import FAILS_EVERY, IN_FLIGHT, Run, SagaLoad
from processors.local.kafka import EmbeddedKafka

_HERE = Path(__file__).parent
# One in so many sagas of the warm-up goes alone, after the others.
_WARM_UP_ALONE = 20
_ENGINE = ("S2", "S1", "raw", "S3", "S4")
ALL = (*_ENGINE, "S5", "S6")


def main() -> None:
    """Run what is asked for."""
    options = _options()
    if hasattr(os, "sched_setaffinity"):
        # Inherited by everything that is started from here.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    console = Console()
    rows: list[ResultRow] = []
    with tempfile.TemporaryDirectory(prefix="scrapesaga-bench-", dir=options.folder) as folder:
        wanted = [one for one in _ENGINE if one in options.scenarios]
        if wanted:
            rows += _on_one_engine(console, Path(folder) / "engine", wanted, options)
        if "S5" in options.scenarios:
            rows += _waiting(console, Path(folder) / "waiting", options)
        if "S6" in options.scenarios:
            for number in range(options.runs):
                rows.append(shop.measure(Path(folder) / f"shop-{number}", options.urls))
                console.print(f"run {number + 1} S6: {_brief(rows[-1])}", soft_wrap=True)
    if options.profile is not None:
        for path in sorted(options.profile.rglob("*.txt")):
            print(f"{path.parent.name} {table(path)}")
    sizes = {"S1": (options.peer_sagas, options.in_flight), "S2": (options.one_at_a_time, 1)}
    sizes["S3"] = sizes["S1"]
    for row in peer.rows(options.peer, options.scenarios, options.runs, sizes):
        console.print(f"{row.engine} {row.scenario}: {_brief(row)}", soft_wrap=True)
        rows.append(row)
    show(console, rows)
    rows = sorted([*earlier(options.out, rows), *rows], key=_place)
    save(options.out, rows)
    plot(options.out.with_suffix(".png"), rows)
    console.print(f"written: {options.out}, {options.out.with_suffix('.png')}")


def _place(row: ResultRow) -> int:
    name = row.scenario.split()[0]
    return ALL.index(name) if name in ALL else len(ALL)


def _on_one_engine(console: Console, folder: Path, wanted: list[str], options: argparse.Namespace) -> list[ResultRow]:
    rows: list[ResultRow] = []
    settings = dict(one.split("=", 1) for one in options.set)
    with BenchEngine(folder, layout=options.layout, settings=settings) as engine:
        run = Run(engine)
        # A JVM that has just started compiles what it runs, on the cores that are measured.
        run.carry(SagaLoad(options.warm_up, in_flight=options.in_flight), "warm-up", warm_up=True)
        if "S2" in wanted:
            # What a lone record takes is other code, there and here.
            run.alone(options.warm_up // _WARM_UP_ALONE)
        if options.idle:
            console.print("idle CPU in % of a core:", {n: round(v, 2) for n, v in run.idle(options.idle).items()})
        for number in range(options.runs):
            for scenario in wanted:
                with _profiled(run, scenario, options):
                    row = _one(run, scenario, options)
                console.print(f"run {number + 1} {scenario}: {_brief(row)}", soft_wrap=True)
                rows.append(row)
    return rows


def _waiting(console: Console, folder: Path, options: argparse.Namespace) -> list[ResultRow]:
    rows: list[ResultRow] = []
    sizes = [int(size) for size in options.waiting.split(",")]
    with EmbeddedKafka(folder / "kafka", fast_start=False) as broker:
        for row in waiting.rows(broker, folder, sizes, options.stores.split(",")):
            console.print(f"{row.scenario}: {_brief(row)}", soft_wrap=True)
            rows.append(row)
    return rows


def _profiled(run: Run, scenario: str, options: argparse.Namespace) -> AbstractContextManager[None]:
    if options.profile is None or scenario == "raw":
        return nullcontext()
    return profiled(run.engine.pids(), options.profile / scenario)


def _one(run: Run, scenario: str, options: argparse.Namespace) -> ResultRow:
    sagas = options.sagas
    match scenario:
        case "S1":
            return run.carry(SagaLoad(sagas, in_flight=options.in_flight), "S1")
        case "S2":
            return run.one_at_a_time(options.one_at_a_time)
        case "S3":
            return run.carry(SagaLoad(sagas, FAILS_EVERY, options.in_flight), "S3")
        case "S4":
            return run.carry(SagaLoad(sagas, in_flight=options.in_flight), "S4", kill_at=sagas // 3)
        case _:
            return run.raw_limit(sagas)


def _brief(row: ResultRow) -> str:
    numbers = {
        "sagas/s": row.sagas_per_s,
        "p50": row.p50_ms,
        "p99": row.p99_ms,
        "CPU ms": row.cpu_ms_per_saga,
        **row.more,
    }
    shown = "  ".join(f"{name} {value:,.4g}" for name, value in numbers.items() if value is not None)
    return f"{shown}  (" + ", ".join(f"{name} {value:.3f}" for name, value in row.cpu.items()) + ")"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(ALL), help="which, by comma")
    parser.add_argument("--runs", type=int, default=1, help="how often; the table shows medians (1)")
    parser.add_argument("--sagas", type=int, default=12_000, help="sagas of S1, S3 and S4 (12000)")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help=f"unfinished sagas at most ({IN_FLIGHT})")
    parser.add_argument("--one-at-a-time", type=int, default=200, help="sagas of S2 (200)")
    parser.add_argument("--warm-up", type=int, default=4_000, help="sagas before anything is measured (4000)")
    parser.add_argument("--waiting", default="10000,100000", help="sagas of S5; 1000000 takes a few minutes a store")
    parser.add_argument("--stores", default="memory,rocksdb", help="stores of S5 (memory,rocksdb)")
    parser.add_argument("--urls", type=int, default=500, help="pages of S6 (500)")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=COMMAND", help="another engine: bench/peer.py"
    )
    parser.add_argument("--peer-sagas", type=int, default=2_000, help="sagas of a peer's S1 and S3 (2000)")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="two", help="which roles share a process (two)")
    parser.add_argument("--set", action="append", default=[], metavar="SCRAPESAGA_X=Y", help="a setting to change")
    parser.add_argument("--idle", type=float, default=0.0, metavar="SECONDS", help="measure idle CPU for so long first")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="run py-spy beside, and print what it saw")
    parser.add_argument("--cores", type=int, default=2, help="cores for everything together (2)")
    parser.add_argument("--folder", help="where to put the broker's data (the system's temporary folder)")
    parser.add_argument("--out", type=Path, default=_HERE / "results.json", help="where to write the rows")
    options = parser.parse_args()
    options.scenarios = options.scenarios.split(",")
    if options.one_at_a_time < 2:
        parser.error("--one-at-a-time: a percentile needs at least 2")
    if unknown := [one for one in options.scenarios if one not in ALL]:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(ALL)}")
    return options


if __name__ == "__main__":
    main()
