"""Every world that a small plan can reach: no promise is broken in any, and from each an end can be reached."""

from __future__ import annotations

import pytest

from processors.saga.plan import Plan
from processors.simulation.rules.faults import GENEROUS, Limit, RuleFault
from processors.simulation.rules.moves import APPLY, SUBMIT, Move, perform
from processors.simulation.rules.world import World
from tests.sim.plans import CI, PAIR
from tests.sim.walk import canonical, walk

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("name", "plan", "budget"), CI, ids=[name for name, _, _ in CI])
def test_walk(name: str, plan: Plan, budget: dict[Limit, int]) -> None:
    """The walk is closed, finds no broken promise, and no world from which the saga can't come to rest."""
    result = walk(name, plan, budget)
    assert result.found is None, result
    assert result.closed, result
    assert result.stuck == 0, result
    assert result.at_rest > 1, "nothing ever came to rest: the walk walked nowhere"


def test_worlds_that_differ_in_numbers_alone_are_one() -> None:
    """Two ways that differ only in how many records were passed over lead to one world."""
    short, long = World(PAIR, GENEROUS), World(PAIR, GENEROUS)
    for world in (short, long):
        perform(world, SUBMIT)
        perform(world, APPLY)
    perform(long, Move("submit", 0, RuleFault.SUBMITTED_AGAIN))
    perform(long, APPLY)
    for world in (short, long):
        perform(world, Move("work", 0))
        perform(world, APPLY)
        world.budget[Limit.DUPLICATES] = world.budget[Limit.COORDINATOR] = 0
    assert short.offset != long.offset
    assert canonical(short) == canonical(long)


def test_worlds_that_differ_in_an_effect_are_two() -> None:
    """The outside is part of a world."""
    one, other = World(PAIR, GENEROUS), World(PAIR, GENEROUS)
    for world in (one, other):
        perform(world, SUBMIT)
        perform(world, APPLY)
    other.do(other.commands[0][0].command)
    assert canonical(one) != canonical(other)
