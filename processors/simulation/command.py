"""The command that simulates pipelines: any number of histories, or one, told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from processors.errors import PipelineError
from processors.pipeline import read_pipelines
from processors.simulation.history import history
from processors.simulation.report import run, summary
from processors.simulation.story import tell


def main(argv: Sequence[str]) -> int:
    """Simulate pipelines by the production rules; 1 if a promise was broken, 2 if a pipeline can't be read."""
    parser = argparse.ArgumentParser(
        prog="simulate", description="Run random histories of a pipeline in which everything that can go wrong does."
    )
    parser.add_argument("pipelines", nargs="+", type=Path, help="pipeline files, or folders of them")
    parser.add_argument("--seeds", type=_count, default=2_000, help="how many histories of each pipeline")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many seconds for each pipeline")
    parser.add_argument("--seed", type=int, help="tell the history of this seed, whatever comes of it")
    chosen = parser.parse_args(argv)
    try:
        plans = read_pipelines(chosen.pipelines)
    except PipelineError as error:
        print(error)
        return 2
    broken = False
    for plan in plans.values():
        if chosen.seed is not None:
            world, _ = history(chosen.seed, plan, told=True)
            print(tell(chosen.seed, world))
            broken = broken or bool(world.broken)
            continue
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        report = run(seeds, plan, seconds=chosen.seconds)
        print(summary(plan, report))
        broken = broken or bool(report.failures)
    return int(broken)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


