"""What each event does in each phase. A handler returns a Transition; the step commands follow from its saga."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from processors.saga.commands import Note, Reject
from processors.saga.events import (
    Cancelled,
    Compensated,
    CompensationFailed,
    Confirmed,
    ConfirmFailed,
    Event,
    Failed,
    Redriven,
    Resumed,
    ResumeMode,
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.moves import (
    MAX_CARRIED_BYTES,
    abort,
    answered,
    confirm_next,
    deadline_of,
    first_due,
    flight_of,
    issue,
    outgrows,
    park,
    proceed,
    retry,
    undo_next,
    undoing,
    with_operator_action,
    with_step,
)
from processors.saga.plan import Plan, Resubmit
from processors.saga.state import PENDING, Action, Phase, Saga, StepState, StepStatus, Undo


class Transition(NamedTuple):
    """The next saga (the same object if nothing changes), a note for metrics, a refusal for the dead-letter topic."""

    saga: Saga | None
    note: Note
    refusal: Reject | None = None


def refuse(saga: Saga | None, reason: str) -> Transition:
    """Change nothing; the event goes to the dead-letter topic with the reason."""
    return Transition(saga, Note.REFUSED, Reject(reason))


# --- submissions ------------------------------------------------------------------------------------------------


def start(event: Submitted, plan: Plan, run: int, seq: int, now: int) -> Saga:
    """Return a saga at its first step. No command is issued yet."""
    return Saga(
        seq=seq,
        due_ms=0,
        phase=Phase.RUNNING,
        job_id=event.job_id,
        run=run,
        offset=-1,
        plan=plan,
        url=event.url,
        payload=event.payload,
        label=event.label,
        content_hash=event.content_hash,
        origins=(event.origin,),
        steps=(PENDING,) * len(plan.steps),
        started_ms=now,
        deadline_ms=deadline_of(plan, now),
        trace=event.trace,
        address=event.address,
    )


def begin(saga: None, event: Submitted, now: int) -> Transition:
    """Start the first run of a job."""
    fresh = start(event, event.plan, now // 1000, 0, now)
    return Transition(issue(fresh, Action.EXECUTE, 0, 1, now), Note.STARTED)


def seen(saga: Saga, event: Submitted) -> bool:
    """True if this very submission was accepted before: intake may deliver it again."""
    return any(
        origin.partition == event.origin.partition and event.origin.offset <= origin.offset for origin in saga.origins
    )


def duplicate(saga: Saga, event: Submitted, now: int) -> Transition:
    """The job is submitted again while it runs: ignored. A submission with other content is refused."""
    if seen(saga, event):
        return Transition(saga, Note.DUPLICATE)
    if event.content_hash == saga.content_hash:
        return Transition(remembered(saga, event), Note.DUPLICATE)
    return refuse(remembered(saga, event), f"job {saga.job_id} is {saga.phase} with different content")


def remembered(saga: Saga, event: Submitted) -> Saga:
    """Record a submission that starts no run, if its redelivery after the saga's end could start one."""
    if event.plan.resubmit is Resubmit.REJECT:
        return saga
    others = tuple(o for o in saga.origins if o.partition != event.origin.partition)
    return replace(saga, origins=(*others, event.origin))


def resubmit(saga: Saga, event: Submitted, now: int) -> Transition:
    """The job is submitted again after its end: the pipeline's resubmit policy decides whether a new run starts."""
    if seen(saga, event):
        return Transition(saga, Note.DUPLICATE)
    policy = event.plan.resubmit
    failed = saga.phase is Phase.COMPENSATED
    if policy is Resubmit.REJECT or (policy is Resubmit.IF_FAILED and not failed):
        if event.content_hash == saga.content_hash:
            return Transition(remembered(saga, event), Note.DUPLICATE)
        return refuse(
            remembered(saga, event),
            f"job {saga.job_id} has ended ({saga.phase}) with different content, and the pipeline's "
            f"resubmit policy is {policy}; use another job_id, or resubmit: always",
        )
    if not saga.quiet:
        return refuse(
            remembered(saga, event),
            f"run {saga.run} of job {saga.job_id} still has unanswered commands",
        )
    fresh = start(event, event.plan, saga.run + 1, saga.seq, now)
    origins = remembered(saga, event).origins
    fresh = replace(
        fresh, origins=origins, previous=saga.phase, withdraws=stands(saga), operator_actions=saga.operator_actions
    )
    return Transition(issue(fresh, Action.EXECUTE, 0, 1, now), Note.STARTED)


def stands(saga: Saga) -> bool:
    """True if an ended saga has a published record: it completed, or it failed and reused the results of such a run."""
    if saga.phase is Phase.COMPLETED:
        return True
    return saga.withdraws and any(step.status is StepStatus.REUSED for step in saga.steps)


def redrive(saga: Saga, event: Redriven, now: int) -> Transition:
    """Start a new run at the given step. It reuses the results of the earlier steps."""
    place = event.plan.index(event.from_step)
    if place < 0:
        return refuse(saga, f"pipeline {event.plan.pipeline} has no step {event.from_step!r}")
    if not saga.quiet:
        return refuse(saga, f"run {saga.run} of job {saga.job_id} still has unanswered commands")
    reused: list[StepState] = []
    for planned in event.plan.steps[:place]:
        old = saga.plan.index(planned.name)
        step = saga.steps[old] if old >= 0 else StepState()
        if step.status not in (StepStatus.SUCCEEDED, StepStatus.REUSED) or step.undo is not Undo.NONE:
            return refuse(
                saga,
                f"step {planned.name!r} has no result to reuse in run {saga.run}; "
                f"redrive from {planned.name!r} or earlier",
            )
        reused.append(StepState(status=StepStatus.REUSED, output=step.output))
    steps = (*reused, *(StepState() for _ in event.plan.steps[place:]))
    fresh = replace(
        saga,
        phase=Phase.RUNNING,
        run=saga.run + 1,
        plan=event.plan,
        steps=steps,
        previous=saga.phase,
        withdraws=stands(saga),
        reason="",
        failed_step="",
        started_ms=now,
        deadline_ms=deadline_of(event.plan, now),
    )
    fresh = with_operator_action(fresh, f"redriven from {event.from_step}", event.by, event.reason, now)
    return Transition(issue(fresh, Action.EXECUTE, place, 1, now), Note.STARTED)


# --- replies to actions -----------------------------------------------------------------------------------------


def settle(saga: Saga, event: Succeeded, now: int) -> Transition:
    """The current step succeeded, in any of its attempts: all attempts share one idempotency key."""
    place = saga.plan.index(event.step)
    noted = answered(saga, place, event.seq)
    if flight_of(saga, place, Action.EXECUTE) is None:
        return Transition(noted, Note.ANSWERED if noted is not saga else Note.IGNORED)
    if outgrows(saga, event.output):
        # The step had its effect, but its output is too large to keep: compensate it by its key.
        reason = f"the outputs of all steps together exceed {MAX_CARRIED_BYTES} bytes: archive what is large"
        full = with_step(noted, place, status=StepStatus.SUCCEEDED, reason=reason)
        return Transition(abort(full, place, reason, now), Note.ABORTED)
    done = with_step(noted, place, status=StepStatus.SUCCEEDED, output=event.output, reason="", in_flight=None)
    following = proceed(done, place, now)
    ended = following.phase is Phase.COMPLETED
    return Transition(following, Note.COMPLETED if ended else Note.ADVANCED)


def retry_or_compensate(saga: Saga, event: Failed, now: int) -> Transition:
    """The current attempt failed: retry if the failure is retryable and attempts are left, else compensate."""
    place = saga.plan.index(event.step)
    noted = note_failure(saga, place, event)
    flight = flight_of(saga, place, Action.EXECUTE)
    if flight is None or event.seq != flight.command_seq:
        return Transition(noted, Note.ANSWERED if noted is not saga else Note.IGNORED)
    noted = with_step(noted, place, reason=event.reason)
    if event.retryable and (again := retry(noted, place, flight, now, event.retry_after_ms)):
        return Transition(again, Note.RETRYING)
    failed = with_step(noted, place, status=StepStatus.FAILED)
    return Transition(abort(failed, place, event.reason, now), Note.ABORTED)


def note_failure(saga: Saga, place: int, event: Failed) -> Saga:
    """Record the reply. With an unknown outcome, the step counts as one that may have had its effect."""
    noted = answered(saga, place, event.seq)
    if event.outcome_unknown and not noted.steps[place].outcome_unknown:
        noted = with_step(noted, place, outcome_unknown=True)
    return noted


def late_failure(saga: Saga, event: Failed, now: int) -> Transition:
    """A failure arrived after the abort: record it. If its outcome is unknown, compensate the step again."""
    place = saga.plan.index(event.step)
    noted = note_failure(saga, place, event)
    if event.outcome_unknown and not forward(saga) and saga.plan.steps[place].undoable:
        return undo_again(noted, place, now)
    return Transition(noted, Note.ANSWERED if noted is not saga else Note.IGNORED)


def late_effect(saga: Saga, event: Succeeded, now: int) -> Transition:
    """A success arrived after the abort: the step had its effect. Compensate it, also if it was compensated before."""
    place = saga.plan.index(event.step)
    step = saga.steps[place]
    noted = answered(saga, place, event.seq)
    if forward(saga):
        # Parked before any compensation: record the success.
        if flight_of(saga, place, Action.EXECUTE):
            noted = with_step(noted, place, status=StepStatus.SUCCEEDED, output=keepable(saga, event))
        return Transition(noted if noted != saga else saga, Note.ANSWERED)
    if not saga.plan.steps[place].undoable:
        noted = with_step(noted, place, status=StepStatus.SUCCEEDED, output=keepable(saga, event))
        return Transition(noted if noted != saga else saga, Note.ANSWERED)
    output = keepable(saga, event) or step.output
    return undo_again(with_step(noted, place, status=StepStatus.SUCCEEDED, output=output), place, now)


def keepable(saga: Saga, event: Succeeded) -> bytes:
    """Return a late output, or no bytes if the saga can't carry it: its step is then compensated by its key."""
    return b"" if outgrows(saga, event.output) else event.output


def forward(saga: Saga) -> bool:
    """True if the saga was parked before any compensation."""
    return saga.phase is Phase.PARKED and not undoing(saga)


def undo_again(saga: Saga, place: int, now: int) -> Transition:
    """Compensate a step whose effect was reported after the abort. Compensations commanded before that do not count."""
    marked = with_step(saga, place, undo=Undo.NEEDED, evidence=saga.seq)
    if saga.phase is Phase.COMPENSATED:
        return Transition(undo_next(marked, now), Note.LATE_EFFECT)
    return Transition(marked, Note.LATE_EFFECT)


def after_completion(saga: Saga, event: Succeeded | Failed, now: int) -> Transition:
    """A superseded attempt replied after completion: record it. It has the same key, so there is only one effect."""
    noted = answered(saga, saga.plan.index(event.step), event.seq)
    return Transition(noted, Note.ANSWERED if noted is not saga else Note.IGNORED)


# --- replies to compensations and confirmations -------------------------------------------------------------------


def compensated(saga: Saga, event: Compensated, now: int) -> Transition:
    """A step is compensated: go on with the step before it. After a late effect, compensate the same step again."""
    place = saga.plan.index(event.step)
    flight = flight_of(saga, place, Action.COMPENSATE)
    if flight is None:
        return Transition(saga, Note.IGNORED)
    counts = event.seq > saga.steps[place].evidence
    if not counts and event.seq != flight.command_seq and saga.phase is not Phase.PARKED:
        return Transition(saga, Note.IGNORED)
    undo = Undo.DONE if counts else Undo.NEEDED
    following = undo_next(with_step(saga, place, undo=undo, in_flight=None), now)
    ended = following.phase is Phase.COMPENSATED
    return Transition(following, Note.COMPENSATED if ended else Note.STEP_COMPENSATED)


def retry_or_park(saga: Saga, event: CompensationFailed | ConfirmFailed, now: int) -> Transition:
    """A compensation or confirmation failed: retry until its budget is spent, then park. It is never dropped."""
    action = Action.COMPENSATE if isinstance(event, CompensationFailed) else Action.CONFIRM
    place = saga.plan.index(event.step)
    flight = flight_of(saga, place, action)
    if flight is None or event.seq != flight.command_seq:
        return Transition(saga, Note.IGNORED)
    noted = with_step(saga, place, reason=event.reason)
    if event.retryable and (again := retry(noted, place, flight, now, event.retry_after_ms)):
        return Transition(again, Note.RETRYING)
    what = "compensation" if action is Action.COMPENSATE else "confirmation"
    return Transition(park(noted, f"{what} of {event.step} gave up: {event.reason}"), Note.PARKED)


def confirmed(saga: Saga, event: Confirmed, now: int) -> Transition:
    """A step is confirmed: confirm the next one, or complete the saga."""
    place = saga.plan.index(event.step)
    if flight_of(saga, place, Action.CONFIRM) is None:
        return Transition(saga, Note.IGNORED)
    following = confirm_next(with_step(saga, place, in_flight=None), place, now)
    ended = following.phase is Phase.COMPLETED
    return Transition(following, Note.COMPLETED if ended else Note.ADVANCED)


# --- time ---------------------------------------------------------------------------------------------------------


def timed_out(saga: Saga, event: TimedOut, now: int) -> Transition:
    """The timer of the current state fired: a retry is due, an attempt timed out, or the saga's deadline has passed."""
    if event.seq != saga.seq:
        return Transition(saga, Note.STALE)
    if now < saga.due_ms:
        return Transition(saga, Note.EARLY)
    place, flight = first_due(saga)
    executing = flight.action is Action.EXECUTE
    if executing and saga.deadline_ms and now >= saga.deadline_ms:
        return Transition(abort(saga, place, "the saga ran out of time", now), Note.ABORTED)
    if flight.command_seq == 0:
        return Transition(issue(saga, flight.action, place, flight.attempt + 1, now), Note.RETRYING)
    name = saga.plan.steps[place].name
    reason = f"attempt {flight.attempt} of {name} timed out"
    late = with_step(saga, place, reason=reason, outcome_unknown=executing or saga.steps[place].outcome_unknown)
    if again := retry(late, place, flight, now, 0):
        return Transition(again, Note.RETRYING)
    if executing:
        return Transition(abort(late, place, reason, now), Note.ABORTED)
    return Transition(park(late, f"{flight.action.lower()} of {name}: {reason}"), Note.PARKED)


def expire(saga: Saga, event: TimedOut, now: int) -> Transition:
    """The retention of an ended saga is over: delete its state. Its events stay on their topics."""
    if event.seq != saga.seq:
        return Transition(saga, Note.STALE)
    if now < saga.due_ms:
        return Transition(saga, Note.EARLY)
    return Transition(None, Note.FORGOTTEN)


# --- operators ------------------------------------------------------------------------------------------------------


def cancel(saga: Saga, event: Cancelled, now: int) -> Transition:
    """Stop the saga and compensate its steps. Refused if every step has succeeded already."""
    place, flight = first_due(saga)
    if flight.action is Action.CONFIRM:
        return refuse(saga, f"job {saga.job_id} has done all its steps; it can't be cancelled any more")
    if flight.action is Action.COMPENSATE:
        return refuse(saga, f"job {saga.job_id} is parked in its compensation; resume it instead")
    noted = with_operator_action(saga, "cancelled", event.by, event.reason, now)
    reason = f"cancelled by {event.by}" + (f": {event.reason}" if event.reason else "")
    return Transition(abort(noted, place, reason, now), Note.ABORTED)


def resume(saga: Saga, event: Resumed, now: int) -> Transition:
    """Continue a parked saga: repeat the command that it is parked on, or skip it."""
    noted = with_operator_action(saga, f"resumed ({event.mode.lower()})", event.by, event.reason, now)
    place, flight = first_due(saga)
    if event.mode is ResumeMode.RETRY:
        phase = Phase.COMPENSATING if flight.action is Action.COMPENSATE else Phase.RUNNING
        # The time spent parked doesn't count: otherwise a deadline that passed meanwhile would abort the resumed saga.
        going = replace(noted, phase=phase, deadline_ms=deadline_of(saga.plan, now))
        if flight.action is Action.COMPENSATE:
            going = with_step(going, place, undo=Undo.NEEDED, in_flight=None)
            return Transition(undo_next(going, now), Note.RESUMED)
        if flight.action is Action.EXECUTE and saga.steps[place].status is StepStatus.SUCCEEDED:
            return Transition(proceed(with_step(going, place, in_flight=None), place, now), Note.RESUMED)
        return Transition(issue(going, flight.action, place, 1, now), Note.RESUMED)
    if not event.reason:
        return refuse(saga, "skipping what a saga is parked on needs a reason")
    if flight.action is Action.EXECUTE:
        return refuse(saga, "an action can't be skipped; resume with retry, or cancel")
    skipped = with_step(noted, place, in_flight=None)
    if flight.action is Action.CONFIRM:
        return Transition(confirm_next(skipped, place, now), Note.RESUMED)
    # The operator who skips may not know of an effect that was reported since: it is compensated in any case.
    evidence = saga.steps[place].evidence
    undo = Undo.NEEDED if evidence and evidence >= flight.command_seq else Undo.SKIPPED
    return Transition(undo_next(with_step(skipped, place, undo=undo), now), Note.RESUMED)


# --- the rest -------------------------------------------------------------------------------------------------------


def ignore(saga: Saga, event: Event, now: int) -> Transition:
    """Ignored: the event changes nothing in this phase."""
    return Transition(saga, Note.IGNORED)


def refused(saga: Saga, event: Event, now: int) -> Transition:
    """The operator's request is not allowed in this phase: it goes to the dead-letter topic."""
    return refuse(saga, f"{type(event).__name__} makes no sense while job {saga.job_id} is {saga.phase}")


def orphan(saga: None, event: Event, now: int) -> Transition:
    """The job is unknown or was forgotten: the event goes to the dead-letter topic, because it may report an effect."""
    return Transition(None, Note.ORPHANED, Reject(f"{type(event).__name__} for job {event.job_id}, which isn't known"))


def orphan_failure(saga: None, event: Failed, now: int) -> Transition:
    """A step of a forgotten job failed: ignored. If its outcome is unknown, it goes to the dead-letter topic."""
    return orphan(saga, event, now) if event.outcome_unknown else too_late(saga, event, now)


def too_late(saga: None, event: Event, now: int) -> Transition:
    """A timer or a reply without an effect, for an unknown or forgotten job: ignored."""
    return Transition(None, Note.STALE)
