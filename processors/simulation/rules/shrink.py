"""Makes a failing history short: the fewest moves that still break the same promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processors.saga.plan import Plan
from processors.simulation.rules.faults import Limit
from processors.simulation.rules.history import replay
from processors.simulation.rules.moves import Move
from processors.simulation.rules.world import World

#: Replays that shrinking may cost; a history of 60 moves takes some 300.
TRIES = 1_500


def shrunk(moves: Sequence[Move], plan: Plan, budget: Mapping[Limit, int]) -> tuple[list[Move], World | None]:
    """Return a shorter list of moves with the same broken rule, and the world it leads to (None: it can't be replayed)."""
    best = list(moves)
    world = replay(best, plan, budget)
    if world is None or not world.violations:
        return best, None
    rule, tries = world.violations[0].rule, 0
    size = max(1, len(best) // 2)
    while tries < TRIES:
        at, shorter = 0, False
        while at < len(best) and tries < TRIES:
            tries += 1
            fewer = best[:at] + best[at + size :]
            seen = replay(fewer, plan, budget)
            if seen is not None and seen.violations and seen.violations[0].rule == rule:
                best, world, shorter = fewer, seen, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return best, world
