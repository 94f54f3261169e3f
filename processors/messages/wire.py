"""Between the pure core's values and the bytes on the topics.

Each pair of functions is one message. Decoding raises BadRecord with what was wrong; encoding never fails for values that
the core made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from processors.errors import BadRecord
from processors.saga.commands import StepCommand
from processors.saga.events import (
    Cancelled,
    Compensated,
    CompensationFailed,
    Confirmed,
    ConfirmFailed,
    Event,
    Failed,
    Redriven,
    Reply,
    Resumed,
    ResumeMode,
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.plan import Plan
from processors.saga.reason import bounded_reason
from processors.saga.state import PENDING, Action, InFlight, Origin, Phase, Saga, StepState, StepStatus, Undo
from schemas.codec import UndecodableMessage, codec, message_name

#: Finds a plan by its hash; raises BadRecord if there is none.
FindPlan = Callable[[str], Plan]

_SUBMITTED = codec("submitted")
_OPERATOR = codec("operator_request")
_TIMED_OUT = codec("timed_out")
_COMMAND = codec("step_command")
_RESULT = codec("step_result")
_SAGA = codec("saga_state")

# Values of the core are encoded as they are: every field is an attribute of the same name, but for these.
_PLAN_FIELDS = {"pipeline": "value.plan.pipeline", "plan_hash": "value.plan.hash"}
_ORIGIN_FIELDS = {"origin_partition": "value.origin.partition", "origin_offset": "value.origin.offset"}
_encode_submitted = _SUBMITTED.encoder({**_PLAN_FIELDS, **_ORIGIN_FIELDS})
_encode_timed_out = _TIMED_OUT.encoder(mapping=True)
_encode_command = _COMMAND.encoder()
_encode_result = _RESULT.encoder(mapping=True)
_encode_saga = _SAGA.encoder(_PLAN_FIELDS, known={"StepState": PENDING})


# --- events -----------------------------------------------------------------------------------------------------


def encode_event(event: Event, **extra: Any) -> bytes:
    """Return the bytes of an event for scrape.events; `extra` fills what only the wire carries (took_us, label...)."""
    match event:
        case Submitted():
            return _encode_submitted(event)
        case TimedOut():
            return _encode_timed_out({"job_id": event.job_id, "seq": event.seq, **extra})
        case Cancelled() | Resumed() | Redriven():
            return _OPERATOR.encode({**_operator(event), **extra})
        case _:
            return _encode_result({**_result(event), **extra})


def _operator(event: Cancelled | Resumed | Redriven) -> dict[str, Any]:
    shared = {"job_id": event.job_id, "by": event.by, "reason": event.reason}
    match event:
        case Cancelled():
            return {**shared, "kind": "CANCEL"}
        case Resumed():
            return {**shared, "kind": event.mode.value}
        case Redriven():
            redrive = {"from_step": event.from_step, "plan_hash": event.plan.hash}
            return {**shared, "kind": "REDRIVE", **redrive}


def _result(event: Reply) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "job_id": event.job_id,
        "run": event.run,
        "seq": event.seq,
        "step": event.step,
    }
    match event:
        case Succeeded():
            return {**shared, "action": "EXECUTE", "outcome": "SUCCEEDED", "output": event.output}
        case Compensated():
            return {**shared, "action": "COMPENSATE", "outcome": "SUCCEEDED"}
        case Confirmed():
            return {**shared, "action": "CONFIRM", "outcome": "SUCCEEDED"}
        case Failed():
            shared |= {"action": "EXECUTE", "retryable": event.retryable, "outcome_unknown": event.outcome_unknown}
        case CompensationFailed():
            shared |= {"action": "COMPENSATE", "retryable": event.retryable}
        case ConfirmFailed():
            shared |= {"action": "CONFIRM", "retryable": event.retryable}
    failure = {"reason": event.reason, "retry_after_ms": event.retry_after_ms}
    return {**shared, "outcome": "FAILED", **failure}


def decode_event(data: bytes | None, plans: FindPlan) -> Event:
    """Return the event in a record of scrape.events. Raises BadRecord."""
    if data is None:
        raise BadRecord("a tombstone in scrape.events has no meaning")
    try:
        match message_name(data):
            case "step_result":
                return reply_of(_RESULT.decode(data))
            case "submitted":
                return _submitted(_SUBMITTED.decode(data), plans)
            case "timed_out":
                value = _TIMED_OUT.decode(data)
                return TimedOut(value["job_id"], value["seq"])
            case "operator_request":
                return _requested(_OPERATOR.decode(data), plans)
            case other:
                raise BadRecord(f"no event: {other or data[:12]!r}")
    except UndecodableMessage as error:
        raise BadRecord(str(error)) from error


def _submitted(value: dict[str, Any], plans: FindPlan) -> Submitted:
    return Submitted(
        job_id=value["job_id"],
        plan=plans(value["plan_hash"]),
        url=value["url"],
        payload=value["payload"],
        content_hash=value["content_hash"],
        origin=Origin(value["origin_partition"], value["origin_offset"]),
        label=value["label"],
        trace=value["trace"],
        address=value["address"],
    )


def _requested(value: dict[str, Any], plans: FindPlan) -> Cancelled | Resumed | Redriven:
    job_id, by, reason = value["job_id"], bounded_reason(value["by"]), bounded_reason(value["reason"])
    match value["kind"]:
        case "CANCEL":
            return Cancelled(job_id, by, reason)
        case "REDRIVE":
            return Redriven(job_id, value["from_step"], plans(value["plan_hash"]), by, reason)
        case mode:
            return Resumed(job_id, ResumeMode(mode), by, reason)


def reply_of(value: dict[str, Any]) -> Reply:
    """Return the event that a decoded StepResult is."""
    job_id, run, step, seq = value["job_id"], value["run"], value["step"], value["seq"]
    reason, after = bounded_reason(value["reason"]), value["retry_after_ms"]
    match value["action"], value["outcome"]:
        case "EXECUTE", "SUCCEEDED":
            return Succeeded(job_id, run, step, seq, value["output"])
        case "EXECUTE", _:
            retryable, outcome_unknown = value["retryable"], value["outcome_unknown"]
            return Failed(job_id, run, step, seq, reason, retryable, outcome_unknown, after)
        case "COMPENSATE", "SUCCEEDED":
            return Compensated(job_id, run, step, seq)
        case "COMPENSATE", _:
            return CompensationFailed(job_id, run, step, seq, reason, value["retryable"], after)
        case "CONFIRM", "SUCCEEDED":
            return Confirmed(job_id, run, step, seq)
        case _:
            return ConfirmFailed(job_id, run, step, seq, reason, value["retryable"], after)


def decode_result(data: bytes) -> dict[str, Any]:
    """Return a StepResult as a mapping, for people and reports. Raises BadRecord."""
    try:
        return _RESULT.decode(data)
    except UndecodableMessage as error:
        raise BadRecord(str(error)) from error


# --- commands -----------------------------------------------------------------------------------------------------


def encode_command(command: StepCommand) -> bytes:
    """Return the bytes of a command for scrape.<step>.commands."""
    return _encode_command(command)


def decode_command(data: bytes | None) -> StepCommand:
    """Return the command in a record. Raises BadRecord."""
    if data is None:
        raise BadRecord("a tombstone on a command topic has no meaning")
    try:
        value = _COMMAND.decode(data)
    except UndecodableMessage as error:
        raise BadRecord(str(error)) from error
    value["action"] = Action(value["action"])
    return StepCommand(**value)


# --- state --------------------------------------------------------------------------------------------------------


def encode_saga(saga: Saga) -> bytes:
    """Return the bytes of a state for scrape.sagas."""
    return _encode_saga(saga)


def decode_saga_fields(data: bytes) -> dict[str, Any]:
    """Return a SagaState as a mapping, without its plan: for people and reports. Raises BadRecord."""
    try:
        return _SAGA.decode(data)
    except UndecodableMessage as error:
        raise BadRecord(str(error)) from error


def decode_saga(data: bytes, plans: FindPlan) -> Saga:
    """Return the saga in a record of scrape.sagas. Raises BadRecord."""
    value = decode_saga_fields(data)
    value["plan"] = plans(value.pop("plan_hash"))
    del value["pipeline"]
    value["phase"] = Phase(value["phase"])
    value["previous"] = Phase(value["previous"])
    value["origins"] = tuple(Origin(o["partition"], o["offset"]) for o in value["origins"])
    value["operator_actions"] = tuple(value["operator_actions"])
    value["steps"] = tuple(_step(one) for one in value["steps"])
    return Saga(**value)


def _step(value: dict[str, Any]) -> StepState:
    flight = value["in_flight"]
    return StepState(
        status=StepStatus(value["status"]),
        attempts=value["attempts"],
        outcome_unknown=value["outcome_unknown"],
        undo=Undo(value["undo"]),
        evidence=value["evidence"],
        unanswered=tuple(value["unanswered"]),
        output=value["output"],
        reason=value["reason"],
        in_flight=None if flight is None else InFlight(**{**flight, "action": Action(flight["action"])}),
    )
