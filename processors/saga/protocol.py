"""The protocol as a table: for each phase and event, the handler and the possible next phases.

`decide` is the one place where a saga changes. It is pure: the coordinator, the simulator, the exhaustive check and the
audit all call it, with the broker's timestamp of the event as `now`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from processors.errors import ProtocolViolation
from processors.saga import handlers as do
from processors.saga.commands import Command, Note, Reject, outstanding
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
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.moves import park, undoing
from processors.saga.state import ENDED, Phase, Saga

NEW, RUNNING, COMPENSATING = Phase.NEW, Phase.RUNNING, Phase.COMPENSATING
PARKED, COMPLETED, COMPENSATED = Phase.PARKED, Phase.COMPLETED, Phase.COMPENSATED


class ProtocolRow(NamedTuple):
    """One line of the protocol."""

    handler: Callable[[Any, Any, int], do.Transition]
    leads_to: frozenset[Phase]


def _row(handler: Callable[[Any, Any, int], do.Transition], *leads_to: Phase) -> ProtocolRow:
    return ProtocolRow(handler, frozenset(leads_to))


# A job in phase NEW has no state: it was never submitted, or it was forgotten after its retention.
PROTOCOL: dict[tuple[Phase, type], ProtocolRow] = {
    (NEW, Submitted): _row(do.begin, RUNNING),
    (NEW, Succeeded): _row(do.orphan, NEW),
    (NEW, Failed): _row(do.orphan_failure, NEW),
    (NEW, TimedOut): _row(do.too_late, NEW),
    (NEW, Compensated): _row(do.too_late, NEW),
    (NEW, CompensationFailed): _row(do.orphan, NEW),
    (NEW, Confirmed): _row(do.too_late, NEW),
    (NEW, ConfirmFailed): _row(do.too_late, NEW),
    (NEW, Cancelled): _row(do.orphan, NEW),
    (NEW, Resumed): _row(do.orphan, NEW),
    (NEW, Redriven): _row(do.orphan, NEW),
    (RUNNING, Submitted): _row(do.duplicate, RUNNING),
    (RUNNING, Succeeded): _row(do.settle, RUNNING, COMPLETED, COMPENSATING, COMPENSATED),
    (RUNNING, Failed): _row(do.retry_or_compensate, RUNNING, COMPENSATING, COMPENSATED),
    (RUNNING, TimedOut): _row(do.timed_out, RUNNING, COMPENSATING, COMPENSATED, PARKED),
    (RUNNING, Compensated): _row(do.ignore, RUNNING),
    (RUNNING, CompensationFailed): _row(do.ignore, RUNNING),
    (RUNNING, Confirmed): _row(do.confirmed, RUNNING, COMPLETED),
    (RUNNING, ConfirmFailed): _row(do.retry_or_park, RUNNING, PARKED),
    (RUNNING, Cancelled): _row(do.cancel, RUNNING, COMPENSATING, COMPENSATED),
    (RUNNING, Resumed): _row(do.refused, RUNNING),
    (RUNNING, Redriven): _row(do.refused, RUNNING),
    (COMPENSATING, Submitted): _row(do.duplicate, COMPENSATING),
    (COMPENSATING, Succeeded): _row(do.late_effect, COMPENSATING),
    (COMPENSATING, Failed): _row(do.late_failure, COMPENSATING),
    (COMPENSATING, TimedOut): _row(do.timed_out, COMPENSATING, PARKED),
    (COMPENSATING, Compensated): _row(do.compensated, COMPENSATING, COMPENSATED),
    (COMPENSATING, CompensationFailed): _row(do.retry_or_park, COMPENSATING, PARKED),
    (COMPENSATING, Confirmed): _row(do.ignore, COMPENSATING),
    (COMPENSATING, ConfirmFailed): _row(do.ignore, COMPENSATING),
    (COMPENSATING, Cancelled): _row(do.ignore, COMPENSATING),
    (COMPENSATING, Resumed): _row(do.refused, COMPENSATING),
    (COMPENSATING, Redriven): _row(do.refused, COMPENSATING),
    (PARKED, Submitted): _row(do.duplicate, PARKED),
    (PARKED, Succeeded): _row(do.late_effect, PARKED),
    (PARKED, Failed): _row(do.late_failure, PARKED),
    (PARKED, TimedOut): _row(do.ignore, PARKED),
    (PARKED, Compensated): _row(do.compensated, PARKED, COMPENSATING, COMPENSATED),
    (PARKED, CompensationFailed): _row(do.ignore, PARKED),
    (PARKED, Confirmed): _row(do.confirmed, PARKED, RUNNING, COMPLETED),
    (PARKED, ConfirmFailed): _row(do.ignore, PARKED),
    (PARKED, Cancelled): _row(do.cancel, PARKED, COMPENSATING, COMPENSATED),
    (PARKED, Resumed): _row(do.resume, PARKED, RUNNING, COMPENSATING, COMPLETED, COMPENSATED),
    (PARKED, Redriven): _row(do.refused, PARKED),
    (COMPLETED, Submitted): _row(do.resubmit, COMPLETED, RUNNING),
    (COMPLETED, Succeeded): _row(do.after_completion, COMPLETED),
    (COMPLETED, Failed): _row(do.after_completion, COMPLETED),
    (COMPLETED, TimedOut): _row(do.expire, COMPLETED, NEW),
    (COMPLETED, Compensated): _row(do.ignore, COMPLETED),
    (COMPLETED, CompensationFailed): _row(do.ignore, COMPLETED),
    (COMPLETED, Confirmed): _row(do.ignore, COMPLETED),
    (COMPLETED, ConfirmFailed): _row(do.ignore, COMPLETED),
    (COMPLETED, Cancelled): _row(do.refused, COMPLETED),
    (COMPLETED, Resumed): _row(do.refused, COMPLETED),
    (COMPLETED, Redriven): _row(do.redrive, COMPLETED, RUNNING),
    (COMPENSATED, Submitted): _row(do.resubmit, COMPENSATED, RUNNING),
    (COMPENSATED, Succeeded): _row(do.late_effect, COMPENSATED, COMPENSATING),
    (COMPENSATED, Failed): _row(do.late_failure, COMPENSATED, COMPENSATING),
    (COMPENSATED, TimedOut): _row(do.expire, COMPENSATED, NEW),
    (COMPENSATED, Compensated): _row(do.ignore, COMPENSATED),
    (COMPENSATED, CompensationFailed): _row(do.ignore, COMPENSATED),
    (COMPENSATED, Confirmed): _row(do.ignore, COMPENSATED),
    (COMPENSATED, ConfirmFailed): _row(do.ignore, COMPENSATED),
    (COMPENSATED, Cancelled): _row(do.refused, COMPENSATED),
    (COMPENSATED, Resumed): _row(do.refused, COMPENSATED),
    (COMPENSATED, Redriven): _row(do.redrive, COMPENSATED, RUNNING),
}


# Tuples, because isinstance() is slower with a union.
_REPLIES = (Succeeded, Failed, Compensated, CompensationFailed, Confirmed, ConfirmFailed)
_OF_ACTIONS = (Succeeded, Failed)


class Decision(NamedTuple):
    """The next saga (None: no state), its commands, and a note for metrics.

    `changed` says whether there is anything to save; an unchanged saga asks for nothing but, perhaps, a Reject.
    """

    saga: Saga | None
    commands: tuple[Command, ...]
    note: Note
    changed: bool


def decide(saga: Saga | None, event: Event, now: int) -> Decision:
    """Return the decision for an event at a time (milliseconds of the broker's clock).

    Raises ProtocolViolation if a handler leads where its row doesn't allow.
    """
    phase = NEW if saga is None else saga.phase
    row = PROTOCOL[phase, type(event)]
    answer = _misaddressed(saga, event) or row.handler(saga, event, now)
    following = answer.saga
    leads_to = NEW if following is None else following.phase
    if leads_to not in row.leads_to:
        raise ProtocolViolation(f"({phase}, {type(event).__name__}) must not lead to {leads_to}")
    rejects = (answer.refusal,) if answer.refusal else ()
    if following is saga:
        return Decision(saga, rejects, answer.note, False)
    if following is None:
        return Decision(None, (), answer.note, True)
    following = replace(following, seq=following.seq + 1, updated_ms=now)
    return Decision(following, (*outstanding(following), *rejects), answer.note, True)


def _misaddressed(saga: Saga | None, event: Event) -> do.Transition | None:
    """Handle replies that don't belong to this run, or to no command of it."""
    if saga is None or not isinstance(event, _REPLIES):
        return None
    if event.run < saga.run:
        return _of_an_earlier_run(saga, event)
    if event.run > saga.run:
        return do.refuse(saga, f"{type(event).__name__} of run {event.run}: the job is at run {saga.run}")
    place = saga.plan.index(event.step)
    if place < 0 or event.seq > saga.seq or (isinstance(event, _OF_ACTIONS) and not saga.steps[place].attempts):
        return do.refuse(saga, f"{type(event).__name__} of {event.step!r} seq {event.seq}: no such command was sent")
    return None


def _of_an_earlier_run(saga: Saga, event: Reply) -> do.Transition:
    """Send a reply to the dead-letter topic if it reports an effect that will not be undone.

    Only of a completed run, and as long as this one doesn't withdraw what that one left, an effect is where it belongs.
    """
    effect = isinstance(event, Succeeded) or (isinstance(event, Failed) and event.outcome_unknown)
    kept = event.run == saga.run - 1 and saga.previous is COMPLETED
    if not effect or (kept and not undoing(saga)):
        return do.Transition(saga, Note.STALE)
    reason = (
        f"late effect: {event.step} of run {event.run} of job {saga.job_id} was done, or may have been (seq "
        f"{event.seq}), after that run was over and run {saga.run} began; undo it by its key"
    )
    return do.Transition(saga, Note.LATE_EFFECT, Reject(reason))


def advance(saga: Saga | None, offset: int, event: Event, now: int) -> Decision:
    """Fold one record of scrape.events into a saga: `decide`, made safe against redelivery.

    A record at or before the saga's offset was applied already. The last applied one gives its commands once more (they
    carry the same seq, so their receivers know them); older ones give nothing.
    """
    if saga is not None and offset <= saga.offset:
        repeated = outstanding(saga) if offset == saga.offset else ()
        return Decision(saga, repeated, Note.REPEATED, False)
    decision = decide(saga, event, now)
    if not decision.changed or decision.saga is None:
        return decision
    if saga is None:
        started = _numbered_from(decision.saga, offset + 1)
        return Decision(replace(started, offset=offset), outstanding(started), decision.note, True)
    # outstanding() doesn't read the offset, so the commands do not change.
    return Decision(replace(decision.saga, offset=offset), decision.commands, decision.note, True)


def _numbered_from(saga: Saga, seq: int) -> Saga:
    """Set the seq of a new saga's first state from the offset of its event.

    A job can come back after it was forgotten, while what it left outside still bears its old numbers. Each state of a job
    takes an event of one partition, so a later offset is above all of them.
    """
    steps = tuple(
        step
        if step.in_flight is None
        else replace(step, unanswered=(seq,), in_flight=replace(step.in_flight, command_seq=seq))
        for step in saga.steps
    )
    return replace(saga, seq=seq, steps=steps)


def poisoned(saga: Saga, offset: int, error: str, now: int) -> Saga:
    """Return the saga, parked because the decision raised an error: the job waits for an operator, its partition continues."""
    if saga.phase in ENDED:
        return saga
    parked = park(saga, f"deciding the event at offset {offset} failed: {error}")
    return replace(parked, seq=saga.seq + 1, offset=offset, updated_ms=now)


class Folded(NamedTuple):
    """The decision for an event. `error` says why the decision failed; None if it succeeded."""

    decision: Decision
    error: Exception | None = None


def advance_or_park(saga: Saga | None, offset: int, event: Event, now: int) -> Folded:
    """Fold one record of scrape.events into a saga; if the decision raises an error, park the job.

    The coordinator, the auditor and the simulation all use it: one job that cannot be decided never stops its partition.
    A job without a state, or an event that was applied before, is left as it is.
    """
    try:
        return Folded(advance(saga, offset, event, now))
    except Exception as error:
        if saga is None or offset <= saga.offset:
            return Folded(Decision(saga, (), Note.PARKED, False), error)
        parked = poisoned(saga, offset, repr(error), now)
        return Folded(Decision(parked, (), Note.PARKED, parked is not saga), error)


__all__ = [
    "PROTOCOL",
    "Decision",
    "Folded",
    "ProtocolRow",
    "Reject",
    "advance",
    "advance_or_park",
    "decide",
    "poisoned",
]
