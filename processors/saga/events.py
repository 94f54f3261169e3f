"""What can happen to a saga. Events are past; `now` is always the broker's timestamp of the event's record."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from processors.saga.plan import Plan
from processors.saga.state import Origin


class Submitted(msgspec.Struct, frozen=True):
    """Intake accepted a request. `content_hash` is a hash of what was asked; `plan` the current plan of its pipeline.

    `url` is canonical, and names the job; `address` is what to request, empty where it is the same.
    """

    job_id: str
    plan: Plan
    url: str
    payload: bytes
    content_hash: str
    origin: Origin
    label: str = ""
    trace: str = ""
    address: str = ""


class Succeeded(msgspec.Struct, frozen=True):
    """An Execute worked."""

    job_id: str
    run: int
    step: str
    seq: int
    output: bytes = b""


class Failed(msgspec.Struct, frozen=True):
    """An Execute did not work; `outcome_unknown`: the outside may have changed all the same."""

    job_id: str
    run: int
    step: str
    seq: int
    reason: str
    retryable: bool = False
    outcome_unknown: bool = False
    retry_after_ms: int = 0


class Compensated(msgspec.Struct, frozen=True):
    """A Compensate worked, or found nothing to undo."""

    job_id: str
    run: int
    step: str
    seq: int


class CompensationFailed(msgspec.Struct, frozen=True):
    """A Compensate did not work; only a person may give up on it (not `retryable`: park at once)."""

    job_id: str
    run: int
    step: str
    seq: int
    reason: str
    retryable: bool = True
    retry_after_ms: int = 0


class Confirmed(msgspec.Struct, frozen=True):
    """A Confirm worked."""

    job_id: str
    run: int
    step: str
    seq: int


class ConfirmFailed(msgspec.Struct, frozen=True):
    """A Confirm did not work."""

    job_id: str
    run: int
    step: str
    seq: int
    reason: str
    retryable: bool = True
    retry_after_ms: int = 0


class TimedOut(msgspec.Struct, frozen=True):
    """The timer armed by the state with this seq rang."""

    job_id: str
    seq: int


class Cancelled(msgspec.Struct, frozen=True):
    """An operator asked to stop and undo."""

    job_id: str
    by: str
    reason: str = ""


class ResumeMode(StrEnum):
    """How a parked saga goes on: try the same command again, or leave it be, with a reason."""

    RETRY = "RETRY"
    SKIP = "SKIP"


class Resumed(msgspec.Struct, frozen=True):
    """An operator let a parked saga go on."""

    job_id: str
    mode: ResumeMode
    by: str
    reason: str = ""


class Redriven(msgspec.Struct, frozen=True):
    """An operator asked for a new run that reuses the results of the steps before `from_step`."""

    job_id: str
    from_step: str
    plan: Plan
    by: str
    reason: str = ""


Reply = Succeeded | Failed | Compensated | CompensationFailed | Confirmed | ConfirmFailed
Event = Submitted | Reply | TimedOut | Cancelled | Resumed | Redriven
EVENTS: tuple[type, ...] = (
    Submitted,
    Succeeded,
    Failed,
    TimedOut,
    Compensated,
    CompensationFailed,
    Confirmed,
    ConfirmFailed,
    Cancelled,
    Resumed,
    Redriven,
)
