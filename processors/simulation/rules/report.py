"""Runs many histories of a plan and says what they came to.

report = run(range(20_000), plan)
print(summary(plan, report))
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from processors.saga.invariants import Violation
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Phase
from processors.simulation.rules.faults import GENEROUS, Limit, RuleFault
from processors.simulation.rules.history import history
from processors.simulation.rules.moves import Move
from processors.simulation.rules.shrink import shrunk
from processors.simulation.rules.story import story_of
from processors.simulation.rules.world import World


def per_minute(histories: int, cpu_seconds: float) -> int:
    """Histories a minute of one core, whoever else uses the machine."""
    return int(histories * 60 / cpu_seconds) if cpu_seconds else 0


@dataclass(frozen=True, slots=True)
class RulesFailure:
    """A history that broke a promise."""

    seed: int
    violations: tuple[Violation, ...]
    moves: tuple[Move, ...]
    story: str


@dataclass(slots=True)
class RulesReport:
    """What a number of histories came to."""

    histories: int = 0
    moves: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    faults: Counter[RuleFault] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[RulesFailure] = field(default_factory=list)

    @property
    def per_minute(self) -> int:
        """Histories a minute of one core, whoever else uses the machine."""
        return per_minute(self.histories, self.cpu_seconds)

    @property
    def missing(self) -> list[RuleFault]:
        """Kinds of faults that never happened."""
        return [fault for fault in RuleFault if fault not in self.faults]


def end_of(world: World) -> str:
    """Say how a history ended: the phase, or that the saga was forgotten."""
    if world.saga is None:
        return "forgotten"
    return world.saga.phase.value if world.saga.phase in ENDED or world.saga.phase is Phase.PARKED else "going on"


def run(
    seeds: Sequence[int], plan: Plan, budget: Mapping[Limit, int] = GENEROUS, *, stop_at: int = 1, seconds: float = 0
) -> RulesReport:
    """Run one history a seed; stop after `stop_at` failures, or after `seconds` if given."""
    report = RulesReport()
    started, cpu_started = time.perf_counter(), time.process_time()
    for seed in seeds:
        world, taken = history(seed, plan, budget)
        report.histories += 1
        report.moves += len(taken)
        report.faults.update(world.hit)
        report.ends[end_of(world)] += 1
        if world.violations:
            moves, last = shrunk(taken, plan, budget)
            report.failures.append(
                RulesFailure(seed, (last or world).violations, tuple(moves), story_of(seed, last or world))
            )
            if len(report.failures) >= stop_at:
                break
        if seconds and time.perf_counter() - started > seconds:
            break
    report.seconds = time.perf_counter() - started
    report.cpu_seconds = time.process_time() - cpu_started
    return report


def summary(plan: Plan, report: RulesReport) -> str:
    """Return a report as text: how many histories, how they ended, which faults they met, what failed."""
    ends = ", ".join(f"{count} {name.lower()}" for name, count in report.ends.most_common())
    lines = [
        f"pipeline {plan.pipeline}, the rules: {report.histories} histories, {report.moves} moves in "
        f"{report.seconds:.1f} s ({report.per_minute} a minute of one core)",
        f"ended: {ends}",
        *(f"{count:8} x {fault}" for fault, count in report.faults.most_common()),
        *(f"   never: {fault}" for fault in report.missing),
    ]
    for failure in report.failures:
        lines += ["", failure.story]
    return "\n".join(lines)
