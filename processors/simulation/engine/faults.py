"""What can go wrong with the whole engine, and what of it happens in one history."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from processors.saga.plan import Plan


class Trouble(StrEnum):
    """One kind of mishap, or of interference by a person or a client; the value completes "... when"."""

    COORDINATOR_KILLED = "a coordinator is killed at an await"
    WORKER_KILLED = "a worker is killed at an await"
    COORDINATOR_ZOMBIE = "a coordinator is halted past its session and goes on as a zombie"
    WORKER_ZOMBIE = "a worker is halted past its session and goes on as a zombie"
    PAUSED = "a process stands still for a moment"
    REBALANCED = "a partition moves to another process"
    CUT_OFF = "a process is cut off from Kafka for a while"
    NOT_WRITTEN = "Kafka does not acknowledge, and has written nothing"
    HALF_WRITTEN = "Kafka does not acknowledge, and has written a part"
    UNACKNOWLEDGED = "Kafka does not acknowledge, though it has written all"
    CLOCK_SKEWED = "the clock of a process is wrong"
    CLOCK_JUMPED = "the clock of a process jumps"
    BROKER_CLOCK_JUMPED = "the broker's clock jumps"
    STEP_FAILS = "the step fails for good"
    STEP_RETRIES = "the step asks for a retry"
    STEP_SURPRISES = "the step raises before its effect"
    REPLY_LOST = "the reply is lost"
    HANGS_BEFORE = "an attempt hangs before its effect"
    HANGS_AFTER = "an attempt hangs after its effect"
    SLOW = "an attempt is slow"
    UNDO_FAILS = "a compensation or confirmation fails for now"
    UNDO_REPLY_LOST = "the reply of a compensation or confirmation is lost"
    UNDO_GIVES_UP = "a compensation or confirmation can't work"
    UNDO_HANGS = "a compensation or confirmation hangs"
    CANCELLED = "an operator cancels"
    RESUMED = "an operator resumes"
    SKIPPED = "an operator skips"
    REDRIVEN = "an operator redrives"
    SUBMITTED_AGAIN = "a submission is delivered again"
    SUBMITTED_TWICE = "the same request is submitted twice"
    OTHER_CONTENT = "another request comes under the same job_id"
    REPLY_REPEATED = "a reply is delivered again"
    GARBAGE = "a record that nobody can read"
    FORGOTTEN = "the retention ends, and the job comes back"
    # Not planned: what the others lead to, noticed where it happens.
    REDELIVERED = "a record is delivered again"
    REORDERED = "records of two partitions arrive in another order than they were written"


#: How often each is drawn, against the others; what is not here is noticed, not planned.
WEIGHTS: Mapping[Trouble, int] = MappingProxyType(
    {
        Trouble.COORDINATOR_KILLED: 6,
        Trouble.WORKER_KILLED: 8,
        Trouble.COORDINATOR_ZOMBIE: 5,
        Trouble.WORKER_ZOMBIE: 6,
        Trouble.PAUSED: 3,
        Trouble.REBALANCED: 5,
        Trouble.CUT_OFF: 3,
        Trouble.NOT_WRITTEN: 2,
        Trouble.HALF_WRITTEN: 3,
        Trouble.UNACKNOWLEDGED: 3,
        Trouble.CLOCK_SKEWED: 3,
        Trouble.CLOCK_JUMPED: 3,
        Trouble.BROKER_CLOCK_JUMPED: 2,
        Trouble.STEP_FAILS: 10,
        Trouble.STEP_RETRIES: 5,
        Trouble.STEP_SURPRISES: 4,
        Trouble.REPLY_LOST: 8,
        Trouble.HANGS_BEFORE: 3,
        Trouble.HANGS_AFTER: 6,
        Trouble.SLOW: 4,
        Trouble.UNDO_FAILS: 4,
        Trouble.UNDO_REPLY_LOST: 3,
        Trouble.UNDO_GIVES_UP: 3,
        Trouble.UNDO_HANGS: 3,
        Trouble.CANCELLED: 8,
        Trouble.RESUMED: 4,
        Trouble.SKIPPED: 3,
        Trouble.REDRIVEN: 4,
        Trouble.SUBMITTED_AGAIN: 3,
        Trouble.SUBMITTED_TWICE: 3,
        Trouble.OTHER_CONTENT: 2,
        Trouble.REPLY_REPEATED: 3,
        Trouble.GARBAGE: 2,
        Trouble.FORGOTTEN: 2,
    }
)
#: Noticed where they happen.
NOTICED = frozenset(Trouble) - frozenset(WEIGHTS)

ON_EXECUTE = frozenset(
    {
        Trouble.STEP_FAILS,
        Trouble.STEP_RETRIES,
        Trouble.STEP_SURPRISES,
        Trouble.REPLY_LOST,
        Trouble.HANGS_BEFORE,
        Trouble.HANGS_AFTER,
        Trouble.SLOW,
    }
)
ON_UNDO = frozenset({Trouble.UNDO_FAILS, Trouble.UNDO_REPLY_LOST, Trouble.UNDO_GIVES_UP, Trouble.UNDO_HANGS})
AT_TURNS = frozenset(
    {
        Trouble.COORDINATOR_KILLED,
        Trouble.WORKER_KILLED,
        Trouble.COORDINATOR_ZOMBIE,
        Trouble.WORKER_ZOMBIE,
        Trouble.PAUSED,
        Trouble.CUT_OFF,
        Trouble.CLOCK_JUMPED,
    }
)
AT_SENDS = frozenset({Trouble.NOT_WRITTEN, Trouble.HALF_WRITTEN, Trouble.UNACKNOWLEDGED})
BY_PEOPLE = frozenset(
    {
        Trouble.CANCELLED,
        Trouble.RESUMED,
        Trouble.SKIPPED,
        Trouble.SUBMITTED_AGAIN,
        Trouble.SUBMITTED_TWICE,
        Trouble.OTHER_CONTENT,
        Trouble.REPLY_REPEATED,
        Trouble.GARBAGE,
        Trouble.REBALANCED,
        Trouble.BROKER_CLOCK_JUMPED,
    }
)
#: Done once everything has come to rest.
AFTERWARDS = frozenset({Trouble.REDRIVEN, Trouble.FORGOTTEN})

COORDINATOR = "coordinator"
#: Mishaps begin within this many seconds.
ROUGH_S = 30.0
#: A smooth history is over within as many.
SMOOTH_S = 2.5
#: A role's process takes some hundred turns in a smooth history.
TURNS = 120
_MOST = 9


class Planned(NamedTuple):
    """One mishap of a history: what, to whom, when (turn, call or second, by its kind), and how much of it."""

    kind: Trouble
    where: str
    at: float
    how: float

    def __str__(self) -> str:
        return f"{self.kind} ({self.where}, {self.at:g})"


def drawn(seed: int, plan: Plan) -> tuple[Planned, ...]:
    """Return what goes wrong in the history of a seed: up to some ten mishaps, often few."""
    chance = random.Random(seed)
    steps = [step.name for step in plan.steps]
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    count = chance.randint(0, chance.choice((3, 6, _MOST)))
    planned = [_one(kind, steps, chance) for kind in chance.choices(kinds, weights, k=count)]
    # A compensation is only met by a job that fails, and a person by one that is parked.
    if any(one.kind in (Trouble.RESUMED, Trouble.SKIPPED) for one in planned):
        planned.append(Planned(Trouble.UNDO_GIVES_UP, chance.choice(steps), 1, chance.random()))
    if any(one.kind in ON_UNDO for one in planned) and chance.random() < 0.8:
        planned.append(Planned(Trouble.STEP_FAILS, steps[-1], 1, chance.random()))
    # A partition that comes back meets whatever its first owner still remembers of it.
    moved = [one for one in planned if one.kind is Trouble.REBALANCED and chance.random() < 0.6]
    planned += [one._replace(at=one.at + 0.2 + 2 * chance.random()) for one in moved]
    # An effect that nobody learned of, and no second attempt that tells: what compensations are most often wrong about.
    unlearned = [one for one in planned if one.kind in (Trouble.REPLY_LOST, Trouble.HANGS_AFTER)]
    planned += [Planned(Trouble.STEP_FAILS, one.where, one.at + 1, 0.0) for one in unlearned if chance.random() < 0.6]
    return tuple(planned)


def _one(kind: Trouble, steps: Sequence[str], chance: random.Random) -> Planned:
    how = chance.random()
    if kind in ON_EXECUTE or kind in ON_UNDO:
        return Planned(kind, chance.choice(steps), chance.choice((1, 1, 1, 2, 2, 3)), how)
    if kind in (Trouble.COORDINATOR_KILLED, Trouble.COORDINATOR_ZOMBIE):
        where = COORDINATOR
    elif kind in (Trouble.WORKER_KILLED, Trouble.WORKER_ZOMBIE):
        where = chance.choice(steps)
    else:
        where = COORDINATOR if chance.random() < 0.4 else chance.choice(steps)
    if kind in AT_TURNS:
        # A worker takes fewer turns than the coordinator, which handles every event.
        return Planned(kind, where, 1 + int(TURNS * chance.random() * (1 if where == COORDINATOR else 0.4)), how)
    if kind in AT_SENDS:
        return Planned(kind, where, chance.randint(1, 8), how)
    within = SMOOTH_S if chance.random() < 0.75 else ROUGH_S
    return Planned(kind, where, round(within * chance.random(), 3), how)
