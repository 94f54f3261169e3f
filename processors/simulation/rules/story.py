"""Tells a history to a person: what happened in which order, what the saga made of it, and what is wrong."""

from __future__ import annotations

from processors.simulation.rules.world import World


def story_of(seed: int, world: World) -> str:
    """Return the story of a told world, one line a move."""
    lines = [f"seed {seed}"]
    lines += [f"{number:4} {line}" for number, line in enumerate(world.trace, 1)]
    saga = world.saga
    if saga is not None:
        lines.append(f"     the saga is {saga.phase}, run {saga.run}, seq {saga.seq}" + _reason(saga.reason))
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True):
            lines.append(f"     {planned.name}: {step.status}, undo {step.undo}, {step.attempts} attempts")
    lines += [f"     outside: {address} = {thing}" for address, thing in sorted(world.effects.items())]
    lines += [f"  !! {violation}" for violation in world.violations]
    return "\n".join(lines)


def _reason(reason: str) -> str:
    return f": {reason}" if reason else ""
