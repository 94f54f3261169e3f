"""Bugs that saga engines have had, each planted by changing one function, each to be found by one of the levels.

    python -m tests.sim.planted [HISTORIES] [--only WORDS] [--write docs/verification.md | --check docs/verification.md]

A check that finds nothing proves nothing unless it is known to find what there is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from processors.saga.plan import Plan, Resubmit
from processors.simulation.engine.history import whole_history
from processors.simulation.engine.report import silence
from processors.simulation.rules.history import history
from tests.sim.plans import SMALL, shop
from tests.sim.planted_rules import IN_THE_RULES
from tests.sim.planted_shell import IN_THE_SHELL
from tests.sim.planted_whole import IN_THE_ENGINE
from tests.sim.planting import Bug
from tests.sim.report import put_table, table_rows
from tests.sim.walk import walk

BUGS = [*IN_THE_RULES, *IN_THE_SHELL]
ALL_BUGS = [*BUGS, *IN_THE_ENGINE]
HEAD = ("| planted bug | found by | after | broken promise |", "|---|---|---:|---|")


class Caught(NamedTuple):
    """How a planted bug came to light."""

    by: str
    histories: int
    rule: str
    seconds: float


PLANS: Sequence[Plan] = (shop(Resubmit.ALWAYS), shop(Resubmit.IF_FAILED))


def hunt(bug: Bug, histories: int, plans: Sequence[Plan] = PLANS) -> Caught | None:
    """Look for a planted bug by random histories, or by the small exhaustive walk; None if it stays hidden."""
    started = time.perf_counter()
    engine = bug in IN_THE_ENGINE
    with bug.plant(), silence():
        for after, rules in (_whole if engine else _rules)(histories, plans):
            if rules:
                by = "whole engine" if engine else "simulator"
                return Caught(by, after, rules[0], time.perf_counter() - started)
        for name, plan, budget in () if engine else SMALL:
            walked = walk(name, plan, budget)
            if walked.found or walked.stuck:
                rule = walked.found.violations[0].rule if walked.found else "an end can be reached from everywhere"
                return Caught(f"walk: {name}", walked.worlds, rule, time.perf_counter() - started)
    return None


Found = Iterator[tuple[int, list[str]]]


def _rules(histories: int, plans: Sequence[Plan]) -> Found:
    for seed in range(histories):
        found, _ = history(seed, plans[seed // 10 % len(plans)])
        yield seed + 1, [one.rule for one in found.violations]


def _whole(histories: int, plans: Sequence[Plan]) -> Found:
    for seed in range(histories):
        yield seed + 1, [one.rule for one in whole_history(seed, plans[0]).violations]


def main(argv: Sequence[str]) -> int:
    """Plant every bug, hunt it, print the table; 1 if one stays hidden, or if the document's table lacks one."""
    arguments = argparse.ArgumentParser(description="Plant bugs and see whether they are found.")
    arguments.add_argument("histories", nargs="?", type=int, default=100_000, help="at most so many for each bug")
    arguments.add_argument("--only", default="", help="only bugs whose name holds these words")
    arguments.add_argument("--write", help="a Markdown file whose table is to be replaced")
    arguments.add_argument("--check", help="a Markdown file whose table must name the same bugs, each as caught")
    chosen = arguments.parse_args(argv)
    rows, caught = [], 0
    bugs = [bug for bug in ALL_BUGS if chosen.only in bug.name]
    print(f"{'planted bug':56} {'found by':28} {'after':>7}  broken promise")
    for bug in bugs:
        found = hunt(bug, chosen.histories)
        caught += found is not None
        by, after, rule = (found.by, str(found.histories), found.rule) if found else ("NOT FOUND", "", "")
        print(f"{bug.name:56} {by:28} {after:>7}  {rule}", flush=True)
        rows.append(f"| {bug.name} | {by} | {after} | {rule} |")
    last = f"{caught} of {len(bugs)} caught"
    if chosen.write:
        put_table(chosen.write, "planted", [*HEAD, *rows, "", last])
    stale = differing(Path(chosen.check), bugs) if chosen.check else []
    for name in stale:
        print(
            f"{chosen.check} doesn't have it as caught, or has one that isn't planted: {name}; write it anew by --write"
        )
    print(last)
    return int(caught < len(bugs) or bool(stale))


def differing(document: Path, bugs: Sequence[Bug]) -> list[str]:
    """Return the names that are only in the document's table, only planted, or there as not found."""
    rows = [row.strip("| ").split(" | ") for row in table_rows(document, "planted")[len(HEAD) :]]
    documented = {row[0] for row in rows if row[1] != "NOT FOUND"}
    return sorted(documented ^ {bug.name for bug in bugs})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
