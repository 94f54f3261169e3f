"""What can go wrong with the whole engine, and what of it happens in one history."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from processors.saga.plan import Plan


class EngineFault(StrEnum):
    """One kind of fault, or of interference by a person or a client; the value completes "... when"."""

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
    STEP_RAISES = "the step raises before its effect"
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
WEIGHTS: Mapping[EngineFault, int] = MappingProxyType(
    {
        EngineFault.COORDINATOR_KILLED: 6,
        EngineFault.WORKER_KILLED: 8,
        EngineFault.COORDINATOR_ZOMBIE: 5,
        EngineFault.WORKER_ZOMBIE: 6,
        EngineFault.PAUSED: 3,
        EngineFault.REBALANCED: 5,
        EngineFault.CUT_OFF: 3,
        EngineFault.NOT_WRITTEN: 2,
        EngineFault.HALF_WRITTEN: 3,
        EngineFault.UNACKNOWLEDGED: 3,
        EngineFault.CLOCK_SKEWED: 3,
        EngineFault.CLOCK_JUMPED: 3,
        EngineFault.BROKER_CLOCK_JUMPED: 2,
        EngineFault.STEP_FAILS: 10,
        EngineFault.STEP_RETRIES: 5,
        EngineFault.STEP_RAISES: 4,
        EngineFault.REPLY_LOST: 8,
        EngineFault.HANGS_BEFORE: 3,
        EngineFault.HANGS_AFTER: 6,
        EngineFault.SLOW: 4,
        EngineFault.UNDO_FAILS: 4,
        EngineFault.UNDO_REPLY_LOST: 3,
        EngineFault.UNDO_GIVES_UP: 3,
        EngineFault.UNDO_HANGS: 3,
        EngineFault.CANCELLED: 8,
        EngineFault.RESUMED: 4,
        EngineFault.SKIPPED: 3,
        EngineFault.REDRIVEN: 4,
        EngineFault.SUBMITTED_AGAIN: 3,
        EngineFault.SUBMITTED_TWICE: 3,
        EngineFault.OTHER_CONTENT: 2,
        EngineFault.REPLY_REPEATED: 3,
        EngineFault.GARBAGE: 2,
        EngineFault.FORGOTTEN: 2,
    }
)
#: Noticed where they happen.
NOTICED = frozenset(EngineFault) - frozenset(WEIGHTS)

ON_EXECUTE = frozenset(
    {
        EngineFault.STEP_FAILS,
        EngineFault.STEP_RETRIES,
        EngineFault.STEP_RAISES,
        EngineFault.REPLY_LOST,
        EngineFault.HANGS_BEFORE,
        EngineFault.HANGS_AFTER,
        EngineFault.SLOW,
    }
)
ON_UNDO = frozenset(
    {EngineFault.UNDO_FAILS, EngineFault.UNDO_REPLY_LOST, EngineFault.UNDO_GIVES_UP, EngineFault.UNDO_HANGS}
)
AT_TURNS = frozenset(
    {
        EngineFault.COORDINATOR_KILLED,
        EngineFault.WORKER_KILLED,
        EngineFault.COORDINATOR_ZOMBIE,
        EngineFault.WORKER_ZOMBIE,
        EngineFault.PAUSED,
        EngineFault.CUT_OFF,
        EngineFault.CLOCK_JUMPED,
    }
)
AT_SENDS = frozenset({EngineFault.NOT_WRITTEN, EngineFault.HALF_WRITTEN, EngineFault.UNACKNOWLEDGED})
BY_OPERATORS = frozenset(
    {
        EngineFault.CANCELLED,
        EngineFault.RESUMED,
        EngineFault.SKIPPED,
        EngineFault.SUBMITTED_AGAIN,
        EngineFault.SUBMITTED_TWICE,
        EngineFault.OTHER_CONTENT,
        EngineFault.REPLY_REPEATED,
        EngineFault.GARBAGE,
        EngineFault.REBALANCED,
        EngineFault.BROKER_CLOCK_JUMPED,
    }
)
#: Done once everything has come to rest.
AFTERWARDS = frozenset({EngineFault.REDRIVEN, EngineFault.FORGOTTEN})

COORDINATOR = "coordinator"
#: Faults begin within this many seconds.
ROUGH_S = 30.0
#: A smooth history is over within as many.
SMOOTH_S = 2.5
#: A role's process takes some hundred turns in a smooth history.
TURNS = 120
_MOST = 9


class Planned(NamedTuple):
    """One fault of a history: what, to whom, when (turn, call or second, by its kind), and how much of it."""

    kind: EngineFault
    where: str
    at: float
    how: float

    def __str__(self) -> str:
        return f"{self.kind} ({self.where}, {self.at:g})"


def drawn(seed: int, plan: Plan) -> tuple[Planned, ...]:
    """Return what goes wrong in the history of a seed: up to some ten faults, often few."""
    chance = random.Random(seed)
    steps = [step.name for step in plan.steps]
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    count = chance.randint(0, chance.choice((3, 6, _MOST)))
    planned = [_one(kind, steps, chance) for kind in chance.choices(kinds, weights, k=count)]
    # A compensation is only met by a job that fails, and a person by one that is parked.
    if any(one.kind in (EngineFault.RESUMED, EngineFault.SKIPPED) for one in planned):
        planned.append(Planned(EngineFault.UNDO_GIVES_UP, chance.choice(steps), 1, chance.random()))
    if any(one.kind in ON_UNDO for one in planned) and chance.random() < 0.8:
        planned.append(Planned(EngineFault.STEP_FAILS, steps[-1], 1, chance.random()))
    # A partition that comes back meets whatever its first owner still remembers of it.
    moved = [one for one in planned if one.kind is EngineFault.REBALANCED and chance.random() < 0.6]
    planned += [one._replace(at=one.at + 0.2 + 2 * chance.random()) for one in moved]
    # An effect that nobody learned of, and no second attempt that tells: what compensations are most often wrong about.
    unlearned = [one for one in planned if one.kind in (EngineFault.REPLY_LOST, EngineFault.HANGS_AFTER)]
    planned += [
        Planned(EngineFault.STEP_FAILS, one.where, one.at + 1, 0.0) for one in unlearned if chance.random() < 0.6
    ]
    return tuple(planned)


def _one(kind: EngineFault, steps: Sequence[str], chance: random.Random) -> Planned:
    how = chance.random()
    if kind in ON_EXECUTE or kind in ON_UNDO:
        return Planned(kind, chance.choice(steps), chance.choice((1, 1, 1, 2, 2, 3)), how)
    if kind in (EngineFault.COORDINATOR_KILLED, EngineFault.COORDINATOR_ZOMBIE):
        where = COORDINATOR
    elif kind in (EngineFault.WORKER_KILLED, EngineFault.WORKER_ZOMBIE):
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
