"""The commands of a decision. A command depends only on the state that issued it, so every process with the same state
writes the same command."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from processors.saga.state import Action, InFlight, Saga, idempotency_key


class Note(StrEnum):
    """The kind of a decision, for metrics only."""

    __hash__ = str.__hash__

    STARTED = "started"
    ADVANCED = "advanced"
    RETRYING = "retrying"
    ABORTED = "aborted"
    STEP_COMPENSATED = "step-compensated"
    PARKED = "parked"
    RESUMED = "resumed"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    FORGOTTEN = "forgotten"
    ANSWERED = "answered"
    LATE_EFFECT = "late-effect"
    DUPLICATE = "duplicate"
    STALE = "stale"
    EARLY = "early"
    IGNORED = "ignored"
    REFUSED = "refused"
    ORPHANED = "orphaned"
    REPEATED = "repeated"


class StepCommand(msgspec.Struct, frozen=True, gc=False):
    """Execute, Compensate or Confirm one step. `inputs` has the outputs of earlier steps, as JSON by name."""

    job_id: str
    run: int
    seq: int
    step: str
    action: Action
    attempt: int
    key: str
    plan_hash: str
    url: str
    payload: bytes
    label: str
    expires_ms: int
    inputs: dict[str, bytes]
    output: bytes
    trace: str
    address: str = ""


class Reject(msgspec.Struct, frozen=True):
    """The event was refused: it changes nothing, and goes to the dead-letter topic with this reason."""

    reason: str


Command = StepCommand | Reject


def outstanding(saga: Saga) -> tuple[StepCommand, ...]:
    """Return the commands that this state issued, in the order of the steps."""
    return tuple(
        _command(saga, place, step.in_flight)
        for place, step in enumerate(saga.steps)
        if step.in_flight is not None and step.in_flight.command_seq == saga.seq
    )


def _command(saga: Saga, place: int, flight: InFlight) -> StepCommand:
    planned = saga.plan.steps[place]
    executes = flight.action is Action.EXECUTE
    upto = len(saga.steps) if flight.action is Action.CONFIRM else place
    inputs = {saga.plan.steps[at].name: saga.steps[at].output for at in range(upto) if saga.steps[at].output}
    return StepCommand(
        job_id=saga.job_id,
        run=saga.run,
        seq=saga.seq,
        step=planned.name,
        action=flight.action,
        attempt=flight.attempt,
        key=idempotency_key(saga.job_id, saga.run, planned.name),
        plan_hash=saga.plan.hash,
        url=saga.url,
        payload=saga.payload,
        label=saga.label,
        expires_ms=saga.updated_ms + planned.queue_timeout_ms + planned.timeout_ms if executes else 0,
        inputs=inputs,
        output=b"" if executes else saga.steps[place].output,
        trace=saga.trace,
        address=saga.address,
    )
