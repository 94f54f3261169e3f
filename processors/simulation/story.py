"""Tells a history to a person: what happened in which order, what the saga made of it, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from processors.saga.plan import Plan
from processors.simulation.history import Report
from processors.simulation.world import World


def tell(seed: int, world: World) -> str:
    """Return the story of a told world, one line a move."""
    lines = [f"seed {seed}"]
    lines += [f"{number:4} {line}" for number, line in enumerate(world.trace, 1)]
    saga = world.saga
    if saga is not None:
        lines.append(f"     the saga is {saga.phase}, run {saga.run}, seq {saga.seq}" + _reason(saga.reason))
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True):
            lines.append(f"     {planned.name}: {step.status}, undo {step.undo}, {step.attempts} attempts")
    lines += [f"     outside: {address} = {thing}" for address, thing in sorted(world.outside.items())]
    lines += [f"  !! {violation}" for violation in world.broken]
    return "\n".join(lines)


def _reason(reason: str) -> str:
    return f": {reason}" if reason else ""


def summary(plan: Plan, report: Report, wall: Mapping[str, str] | None = None) -> str:
    """Return a report as text: how many histories, how they ended, which mishaps they met, what failed."""
    ends = ", ".join(f"{count} {name.lower()}" for name, count in report.ends.most_common())
    lines = [
        f"pipeline {plan.pipeline}: {report.histories} histories, {report.moves} moves in {report.seconds:.1f} s "
        f"({report.per_minute} a minute)",
        f"ended: {ends}",
        *(f"{count:8} x {fault}" for fault, count in report.faults.most_common()),
        *(f"{name}: {text}" for name, text in (wall or {}).items()),
    ]
    for failure in report.failures:
        lines += ["", failure.story, "     reproduce with: --seed " + str(failure.seed)]
    lines.append(f"{len(report.failures)} broken" if report.failures else "no promise was broken")
    return "\n".join(lines)
