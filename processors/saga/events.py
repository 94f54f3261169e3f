"""The events of a saga. Their names are in the past tense; `now` is always the broker's timestamp of the event's record."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from processors.saga.plan import Plan
from processors.saga.state import Origin


class Submitted(msgspec.Struct, frozen=True):
    """Intake accepted a request. `content_hash` is a hash of the request; `plan` the current plan of its pipeline.

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
    """An Execute succeeded."""

    job_id: str
    run: int
    step: str
    seq: int
    output: bytes = b""


class Failed(msgspec.Struct, frozen=True):
    """An Execute failed. `outcome_unknown`: it may have had its effect."""

    job_id: str
    run: int
    step: str
    seq: int
    reason: str
    retryable: bool = False
    outcome_unknown: bool = False
    retry_after_ms: int = 0


class Compensated(msgspec.Struct, frozen=True):
    """A Compensate succeeded, or found nothing to undo."""

    job_id: str
    run: int
    step: str
    seq: int


class CompensationFailed(msgspec.Struct, frozen=True):
    """A Compensate failed. If it is not `retryable`, the saga is parked at once: only an operator may skip it."""

    job_id: str
    run: int
    step: str
    seq: int
    reason: str
    retryable: bool = True
    retry_after_ms: int = 0


class Confirmed(msgspec.Struct, frozen=True):
    """A Confirm succeeded."""

    job_id: str
    run: int
    step: str
    seq: int


class ConfirmFailed(msgspec.Struct, frozen=True):
    """A Confirm failed."""

    job_id: str
    run: int
    step: str
    seq: int
    reason: str
    retryable: bool = True
    retry_after_ms: int = 0


class TimedOut(msgspec.Struct, frozen=True):
    """The timer that the state with this seq armed has fired."""

    job_id: str
    seq: int


class Cancelled(msgspec.Struct, frozen=True):
    """An operator asked to stop and undo."""

    job_id: str
    by: str
    reason: str = ""


class ResumeMode(StrEnum):
    """How a parked saga continues: repeat the command, or skip it with a reason."""

    RETRY = "RETRY"
    SKIP = "SKIP"


class Resumed(msgspec.Struct, frozen=True):
    """An operator resumed a parked saga."""

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
