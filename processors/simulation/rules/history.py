"""One seed, one history: a random walk through a world, the same whenever and wherever it is taken.

A history is random moves with faults until their number is reached or nothing happens any more; then the faults stop,
and the saga must end or park.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from processors.saga.commands import StepCommand
from processors.saga.invariants import check_log
from processors.saga.plan import Plan
from processors.saga.state import Saga
from processors.simulation.rules.faults import GENEROUS, Limit
from processors.simulation.rules.moves import Move, choices, perform
from processors.simulation.rules.world import JOB, World

#: Moves with faults; most sagas are over long before, the rest is a saga in trouble.
ROUGH_MOVES = 60
#: Moves that a saga has to end or park once nothing goes wrong any more; the longest seen needed some 90.
CALM_MOVES = 600
#: Faults are this much of all moves where both are possible, half of the histories having fewer.
ROUGHNESS = (0.12, 0.45)


def wander(world: World, chance: random.Random, taken: list[Move]) -> None:
    """Let a world go its way: rough, then calm; stops at the first broken promise."""
    roughness = ROUGHNESS[chance.random() < 0.5]
    for _ in range(ROUGH_MOVES):
        moves = choices(world)
        if not moves:
            break
        rough = [move for move in moves if move.fault is not None]
        calm = [move for move in moves if move.fault is None]
        pool = rough if rough and (not calm or chance.random() < roughness) else calm
        if pool is rough and not calm and chance.random() < 0.5:
            break
        move = pool[int(chance.random() * len(pool))]
        taken.append(move)
        perform(world, move)
        if world.violations:
            return
    calm_down(world, chance, taken)


def calm_down(world: World, chance: random.Random, taken: list[Move]) -> None:
    """Let nothing go wrong any more: the saga must end, or park."""
    for _ in range(CALM_MOVES):
        moves = choices(world, ordinary=True)
        if not moves:
            break
        move = moves[int(chance.random() * len(moves))]
        taken.append(move)
        perform(world, move)
        if world.violations:
            return
    if not world.at_rest:
        world.violate("when the faults stop, every saga ends or parks", f"after {CALM_MOVES} moves it goes on")


def check_traced(world: World) -> None:
    """Compare what was saved and sent with the fold of the log."""
    if not world.log:
        return
    states: dict[int, Saga] = {}
    commands: dict[int, StepCommand] = {}
    for state, sent in world.sent:
        if state is not None:
            states[state.seq] = state
        commands.update({command.seq: command for command in sent})
    world.violations = (*world.violations, *check_log(world.log, states, commands, JOB, world.poison))


def history(
    seed: int, plan: Plan, budget: Mapping[Limit, int] = GENEROUS, *, traced: bool = False
) -> tuple[World, list[Move]]:
    """Return the world that a seed leads to, and the moves that led there."""
    # Every tenth history is told, and its log folded once more: that costs as much as the history.
    world = World(plan, budget, traced=traced or seed % 10 == 0)
    taken: list[Move] = []
    wander(world, random.Random(seed), taken)
    if world.traced and not world.violations:
        check_traced(world)
    return world, taken


def replay(moves: Sequence[Move], plan: Plan, budget: Mapping[Limit, int] = GENEROUS) -> World | None:
    """Return the world after these very moves and a calm end, told; None if one of them isn't possible."""
    world = World(plan, budget, traced=True)
    for move in moves:
        if move not in choices(world):
            return None
        perform(world, move)
        if world.violations:
            return world
    calm_down(world, random.Random(0), [])
    if not world.violations:
        check_traced(world)
    return world
