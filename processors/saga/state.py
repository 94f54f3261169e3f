"""The state of a saga: an immutable value, stored in the coordinator's table and on scrape.sagas.

Values made once can't form cycles, so the garbage collector need not look at them (`gc=False`): there are many.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from processors.saga.plan import Plan


class Phase(StrEnum):
    """The phase of a saga. The order is the wire order: append only."""

    # Looked up about twenty times per event, and the hash of Enum is a Python call. The same below.
    __hash__ = str.__hash__

    NEW = "NEW"
    RUNNING = "RUNNING"
    COMPENSATING = "COMPENSATING"
    PARKED = "PARKED"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"


ENDED = frozenset({Phase.COMPLETED, Phase.COMPENSATED})


class Action(StrEnum):
    """The action of a command."""

    __hash__ = str.__hash__

    EXECUTE = "EXECUTE"
    COMPENSATE = "COMPENSATE"
    CONFIRM = "CONFIRM"


class StepStatus(StrEnum):
    """What is known of a step's action in this run."""

    __hash__ = str.__hash__

    PENDING = "PENDING"
    COMMANDED = "COMMANDED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REUSED = "REUSED"


class Undo(StrEnum):
    """What is known of a step's compensation in this run."""

    __hash__ = str.__hash__

    NONE = "NONE"
    NEEDED = "NEEDED"
    DONE = "DONE"
    SKIPPED = "SKIPPED"


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The position of a submission in scrape.urls; a redelivered submission is recognised by it."""

    partition: int
    offset: int


class InFlight(msgspec.Struct, frozen=True, gc=False):
    """A command in flight at one step, or a retry that waits for its time.

    `command_seq` is the seq of the state that issued the command; 0 while a retry waits. `attempt` counts from 1 for each
    action; `first_ms` is when attempt 1 was issued. `due_ms` is when its TimedOut is due. Of a parked saga it says where
    the saga stopped, and `due_ms` means nothing. Times are milliseconds of the broker's clock.
    """

    action: Action
    attempt: int
    command_seq: int
    due_ms: int
    first_ms: int


class StepState(msgspec.Struct, frozen=True, gc=False):
    """One step of one run.

    `in_flight` says what is under way at this step, None if nothing is.

    `open` lists the seq of every Execute that has no answer yet; `outcome_unknown` is set once an attempt was answered
    "outcome unknown" or ran out of time: from then on the step counts as one that may have happened.
    `evidence` is the seq of the state that last learned, after the abort, of an effect or a possible one: compensations
    commanded up to it may have been too early and don't count.
    `output` is the step's StepOutput as JSON.
    """

    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    outcome_unknown: bool = False
    undo: Undo = Undo.NONE
    evidence: int = 0
    unanswered: tuple[int, ...] = ()
    output: bytes = b""
    reason: str = ""
    in_flight: InFlight | None = None


#: A pending step: one object for all, so that it is encoded only once.
PENDING = StepState()


class Saga(msgspec.Struct, frozen=True, gc=False):
    """One job. `seq` grows by one with each change; a command carries the seq of the state that issued it.

    The first run has the number of the second in which it began, the next ones count on: a job_id that comes back after
    its state was forgotten has new idempotency keys. From 1 they would be used ones: a paid call would return what it
    returned then, and one that was cancelled would be refused for ever.

    `url` is canonical, and names the job; `address` is what to request, empty where it is the same.

    `offset` is the place in scrape.events of the last event that changed it. What is under way stands in the steps.
    `due_ms` is when the next TimedOut is due, the earliest of what is under way (0: never). `withdraws` says that an
    earlier run completed and what it published still stands: if this run fails, that goes too. Times are milliseconds of
    the broker's clock.
    """

    seq: int
    due_ms: int
    phase: Phase
    job_id: str
    run: int
    offset: int
    plan: Plan
    url: str
    payload: bytes
    label: str
    content_hash: str
    origins: tuple[Origin, ...]
    steps: tuple[StepState, ...]
    started_ms: int = 0
    updated_ms: int = 0
    deadline_ms: int = 0
    reason: str = ""
    failed_step: str = ""
    previous: Phase = Phase.NEW
    withdraws: bool = False
    operator_actions: tuple[str, ...] = ()
    trace: str = ""
    address: str = ""

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The indexes of the steps with a command in flight; if the saga is parked, of the step at which it stopped."""
        return tuple(place for place, step in enumerate(self.steps) if step.in_flight is not None)

    @property
    def at(self) -> str:
        """The names of the steps with a command in flight, for display."""
        return ", ".join(self.plan.steps[place].name for place in self.in_flight)

    @property
    def quiet(self) -> bool:
        """True if every Execute of this run has been answered."""
        return not any(step.unanswered for step in self.steps)


def idempotency_key(job_id: str, run: int, step: str) -> str:
    """Return the key that all attempts of one step in one run share."""
    return f"{job_id}:{run}:{step}"
