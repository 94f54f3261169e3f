"""The exhaustive walk: every world that a small plan can reach within its budget of faults, breadth first.

    python -m tests.sim.walk [small|ci|large|figure] [--write docs/verification.md]

Worlds that differ only in numbers whose order is the same, or in times whose order is the same, are one: the rules
compare numbers and times, and never compute with them (the plans here have no backoff). The walk is closed: it ends
when no new world is found. In each world every decision and every rest is checked; and from each an end can be reached.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from processors.saga.commands import StepCommand
from processors.saga.events import Event, Failed, Submitted
from processors.saga.invariants import Violation
from processors.saga.plan import Plan
from processors.saga.state import InFlight, Saga
from processors.simulation.rules.effects import EffectRow, Paid
from processors.simulation.rules.faults import Limit
from processors.simulation.rules.moves import Move, choices, perform
from processors.simulation.rules.values import Applied, Delivery
from processors.simulation.rules.world import World

NO_BUDGET: Mapping[Limit, int] = {limit: 0 for limit in Limit}


class Numbers:
    """Ranks the numbers, and apart from them the times, that occur in a world."""

    def __init__(self, world: World) -> None:
        seqs: set[int] = set()
        times: set[int] = set()
        runs: set[int] = set()
        for saga in _sagas(world):
            seqs.add(saga.seq)
            times.update((saga.due_ms, saga.deadline_ms))
            runs.add(saga.run)
            for step in saga.steps:
                seqs.add(step.evidence)
                seqs.update(step.unanswered)
                if step.in_flight is not None:
                    seqs.add(step.in_flight.command_seq)
                    times.add(step.in_flight.due_ms)
        for command in _commands(world):
            seqs.add(command.seq)
            times.add(command.expires_ms)
            runs.add(command.run)
        for event in _events(world):
            seqs.add(getattr(event, "seq", 0))
            runs.add(getattr(event, "run", 0))
        for memory in world.memories:
            seqs.add(memory.seq)
        for thing in world.effects.values():
            if isinstance(thing, Paid):
                seqs.add(thing.fence)
            elif isinstance(thing, EffectRow):
                seqs.add(thing.version)
                runs.add(thing.run)
            else:
                runs.add(thing)
        times.add(world.now)
        times.update(record.timestamp_ms for record in world.inbox)
        self.seq = {number: rank for rank, number in enumerate(sorted(seqs | {0}))}
        self.time = {number: rank for rank, number in enumerate(sorted(times | {0}))}
        self.run = {number: rank for rank, number in enumerate(sorted(runs | {0}))}


def _sagas(world: World) -> Iterable[Saga]:
    for saga in (world.saga, world.old_write):
        if saga is not None:
            yield saga
    for applied in (*world.recent, *((world.zombie,) if world.zombie else ())):
        if applied.before is not None:
            yield applied.before


def _commands(world: World) -> Iterable[StepCommand]:
    for topic in world.commands:
        for delivery in topic:
            yield delivery.command
    for delivery in world.flights:
        yield delivery.command


def _events(world: World) -> Iterable[Event]:
    for record in world.inbox:
        yield record.event
    for applied in (*world.recent, *((world.zombie,) if world.zombie else ())):
        yield applied.record.event
    yield from world.said
    for memory in world.memories:
        if memory.reply is not None:
            yield memory.reply


def canonical(world: World) -> tuple[Any, ...]:
    """Return what two worlds that behave alike have in common."""
    n = Numbers(world)
    seq, run = n.seq, n.run
    spent = {limit: left for limit, left in world.budget.items() if left > 0}
    # What only a fault would use is no difference once there is no budget for it.
    coordinated = Limit.COORDINATOR in spent
    repeatable = Limit.DUPLICATES in spent

    def event(one: Event) -> tuple[Any, ...]:
        where = (type(one).__name__, getattr(one, "step", ""), run[getattr(one, "run", 0)], seq[getattr(one, "seq", 0)])
        if isinstance(one, Failed):
            return (*where, one.retryable, one.outcome_unknown, one.retry_after_ms)
        if isinstance(one, Submitted):
            return (*where, one.content_hash, one.origin.offset)
        return (*where, getattr(one, "retryable", ""), getattr(one, "mode", ""), getattr(one, "from_step", ""))

    def flight(one: InFlight | None) -> tuple[Any, ...] | None:
        if one is None:
            return None
        return (one.action.value, one.attempt, seq[one.command_seq], n.time[one.due_ms])

    def state(saga: Saga | None) -> tuple[Any, ...] | None:
        if saga is None:
            return None
        return (
            saga.phase.value,
            run[saga.run],
            seq[saga.seq],
            n.time[saga.due_ms],
            n.time[saga.deadline_ms],
            saga.previous.value,
            saga.withdraws,
            tuple(one.offset for one in saga.origins) if repeatable else (),
            tuple(
                (
                    one.status.value,
                    one.undo.value,
                    bool(one.attempts),
                    one.outcome_unknown,
                    tuple(seq[number] for number in one.unanswered),
                    seq[one.evidence],
                    flight(one.in_flight),
                )
                for one in saga.steps
            ),
        )

    def delivery(one: Delivery) -> tuple[Any, ...]:
        command = one.command
        return (
            command.action.value,
            command.step,
            run[command.run],
            seq[command.seq],
            n.time[command.expires_ms],
            one.again,
        )

    def applied(one: Applied) -> tuple[Any, ...]:
        return (state(one.before), event(one.record.event), one.record.offset > world.decided)

    def thing(one: object) -> tuple[Any, ...]:
        if isinstance(one, Paid):
            return (one.charged, one.used, seq[one.fence])
        if isinstance(one, EffectRow):
            return (seq[one.version], run[one.run], one.live, one.deleted)
        # Of a page only its presence matters, of a record whose it is.
        return (run.get(one, -1),)  # type: ignore[call-overload]

    return (
        tuple(sorted((limit.value, left) for limit, left in spent.items())),
        n.time[world.now],
        tuple((event(one.event), n.time[one.timestamp_ms], one.offset > world.decided) for one in world.inbox),
        state(world.saga),
        tuple(tuple(delivery(one) for one in topic) for topic in world.commands),
        tuple(sorted(delivery(one) for one in world.flights)),
        tuple((seq[one.seq], one.reply is not None) for one in world.memories),
        tuple(sorted((name, thing(one)) for name, one in world.effects.items())),
        tuple(applied(one) for one in world.recent) if coordinated else (),
        state(world.old_write) if coordinated else None,
        applied(world.zombie) if world.zombie is not None else None,
        tuple(event(one) for one in world.said) if repeatable else (),
        world.excused,
        world.accepted if repeatable else 0,
    )


class Found(NamedTuple):
    """A broken promise and the way to it, which is one of the shortest."""

    violations: tuple[Violation, ...]
    way: tuple[Move, ...]


@dataclass(slots=True)
class Walked:
    """What a walk came to."""

    name: str
    worlds: int = 0
    moves: int = 0
    at_rest: int = 0
    seconds: float = 0.0
    closed: bool = False
    ends: Counter[str] = field(default_factory=Counter)
    found: Found | None = None
    stuck: int = 0

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {name.lower()}" for name, count in sorted(self.ends.items()))
        outcome = f"BROKEN: {self.found.violations[0]}" if self.found else "no promise broken"
        return (
            f"{self.name}: {self.worlds} worlds, {self.moves} moves, {'closed' if self.closed else 'cut off'} after "
            f"{self.seconds:.1f} s; at rest: {ends or 'none'}; {outcome}"
        )


def walk(name: str, plan: Plan, budget: Mapping[Limit, int], *, limit: int = 2_000_000) -> Walked:
    """Visit every world; stop at the first broken promise, or after `limit` worlds (then the walk isn't closed)."""
    started = time.perf_counter()
    result = Walked(name)
    first = World(plan, {**NO_BUDGET, **budget})
    numbers: dict[int, int] = {hash(canonical(first)): 0}
    came_from: list[tuple[int, Move | None]] = [(0, None)]
    backwards: list[list[int]] = [[]]
    resting: list[int] = []
    level = [(0, first)]
    while level and len(numbers) < limit and result.found is None:
        following: list[tuple[int, World]] = []
        for number, world in level:
            moves = choices(world)
            result.moves += len(moves)
            if world.at_rest:
                resting.append(number)
                result.ends[world.saga.phase.value if world.saga else "not begun"] += 1
            for move in moves:
                after = world.fork()
                after.hit = ()
                perform(after, move)
                if after.violations:
                    result.found = Found(after.violations, (*_way(came_from, number), move))
                    break
                key = hash(canonical(after))
                reached = numbers.get(key)
                if reached is None:
                    reached = numbers[key] = len(came_from)
                    came_from.append((number, move))
                    backwards.append([])
                    following.append((reached, after))
                backwards[reached].append(number)
            if result.found:
                break
        level = following
    result.worlds, result.at_rest = len(numbers), len(resting)
    result.closed = not level and result.found is None
    if result.closed:
        result.stuck = len(numbers) - len(_reaching(resting, backwards))
    result.seconds = time.perf_counter() - started
    return result


def _way(came_from: list[tuple[int, Move | None]], number: int) -> tuple[Move, ...]:
    way: list[Move] = []
    while number:
        number, move = came_from[number]
        if move is not None:
            way.append(move)
    return tuple(reversed(way))


def _reaching(resting: list[int], backwards: list[list[int]]) -> set[int]:
    seen, queue = set(resting), list(resting)
    while queue:
        for before in backwards[queue.pop()]:
            if before not in seen:
                seen.add(before)
                queue.append(before)
    return seen


def main(argv: Sequence[str]) -> int:
    """Walk the plans of a size and print what each came to; 1 if a promise was broken."""
    from tests.sim.plans import WALKS
    from tests.sim.report import put_table

    arguments = argparse.ArgumentParser(description="Visit every world that small plans can reach.")
    arguments.add_argument("size", nargs="?", choices=sorted(WALKS), default="ci")
    arguments.add_argument("--write", help="a Markdown file whose table is to be replaced")
    chosen = arguments.parse_args(argv)
    total, failed, rows = 0, False, []
    for name, plan, budget in WALKS[chosen.size]:
        result = walk(name, plan, budget)
        total += result.worlds
        failed = failed or result.found is not None or not result.closed or result.stuck > 0
        print(result, flush=True)
        for move in result.found.way if result.found else ():
            print("   ", move)
        allowed = ", ".join(f"{left} {limit.value.replace('_', ' ')}" for limit, left in budget.items())
        outcome = "broken" if result.found else "closed" if result.closed else "cut off"
        rows.append(f"| {name} | {len(plan.steps)} | {allowed} | {result.worlds:,} | {result.moves:,} | {outcome} |")
    last = f"{total:,} worlds in all"
    if chosen.write:
        head = ["| walk | steps | faults allowed | worlds | moves | |", "|---|---:|---|---:|---:|---|"]
        put_table(chosen.write, "figure" if chosen.size == "figure" else "walks", [*head, *rows, "", last + "."])
    print(last)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
