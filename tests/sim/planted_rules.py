"""Bugs planted in the rules: in handlers, moves and the protocol's table."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from processors.saga import events as ev
from processors.saga import handlers, moves, protocol
from processors.saga.commands import Note, outstanding
from processors.saga.handlers import Transition
from processors.saga.state import Action, InFlight, Phase, Saga, StepStatus, Undo
from tests.sim.planting import Bug, everywhere, handler, swapped

RUNNING, COMPENSATING, PARKED = Phase.RUNNING, Phase.COMPENSATING, Phase.PARKED
COMPLETED, COMPENSATED = Phase.COMPLETED, Phase.COMPENSATED

issue, abort, end, park = moves.issue, moves.abort, moves.end, moves.park
maybe_happened, undo_next, retry = moves.maybe_happened, moves.undo_next, moves.retry
with_step, proceed = moves.with_step, moves.proceed
first_due, flight_of = moves.first_due, moves.flight_of
misaddressed = protocol._misaddressed


def key_per_attempt(saga: Saga) -> Any:
    return tuple(replace(one, key=f"{one.key}:{one.attempt}") for one in outstanding(saga))


def any_timer(saga: Saga, event: ev.TimedOut, now: int) -> Transition:
    return handlers.timed_out(saga, ev.TimedOut(event.job_id, saga.seq), now)


def impatient(saga: Saga, event: ev.TimedOut, now: int) -> Transition:
    return handlers.timed_out(saga, event, max(now, saga.due_ms))


def keeps_no_time(saga: Saga, event: ev.TimedOut, now: int) -> Transition:
    return handlers.expire(saga, event, max(now, saga.due_ms))


def harmless_timeout(saga: Saga, event: ev.TimedOut, now: int) -> Transition:
    """A timeout counts as a failure without effect."""
    place, flight = first_due(saga)
    if event.seq != saga.seq or now < saga.due_ms or flight.action is not Action.EXECUTE or not flight.command_seq:
        return handlers.timed_out(saga, event, now)
    forgot = with_step(saga, place, unanswered=())
    if again := retry(forgot, place, flight, now, 0):
        return Transition(again, Note.RETRYING)
    return Transition(abort(with_step(forgot, place, status=StepStatus.FAILED), place, "timed out", now), Note.ABORTED)


def first_first(saga: Saga, now: int) -> Saga:
    for place, step in enumerate(saga.steps):
        if step.undo is Undo.NEEDED:
            return issue(replace(saga, phase=COMPENSATING), Action.COMPENSATE, place, 1, now)
    return end(saga, COMPENSATED, now)


def restarts(saga: Saga, event: ev.Submitted, now: int) -> Transition:
    fresh = handlers.start(event, event.plan, saga.run + 1, saga.seq, now)
    return Transition(issue(fresh, Action.EXECUTE, 0, 1, now), Note.STARTED)


def tries_again(saga: Saga, event: ev.Failed, now: int) -> Transition:
    if not event.retryable:
        return handlers.late_failure(saga, event, now)
    place = saga.plan.index(event.step)
    return Transition(issue(replace(saga, phase=RUNNING), Action.EXECUTE, place, 1, now), Note.RETRYING)


def cancel_forgets(saga: Saga, event: ev.Cancelled, now: int) -> Transition:
    """What is under way at a cancel isn't undone."""
    place, flight = first_due(saga)
    if flight.action is not Action.EXECUTE or saga.steps[place].status is StepStatus.SUCCEEDED:
        return handlers.cancel(saga, event, now)
    return handlers.cancel(with_step(saga, place, unanswered=(), outcome_unknown=False), event, now)


def gives_up(saga: Saga, event: Any, now: int) -> Transition:
    """A compensation whose budget is spent is dropped."""
    answer = handlers.retry_or_park(saga, event, now)
    place, flight = first_due(saga)
    if answer.note is not Note.PARKED or flight.action is not Action.COMPENSATE:
        return answer
    return Transition(undo_next(with_step(saga, place, undo=Undo.DONE, in_flight=None), now), Note.STEP_COMPENSATED)


def amnesiac_park(saga: Saga, reason: str) -> Saga:
    place, flight = first_due(saga)
    return with_step(park(saga, reason), place, in_flight=replace(flight, action=Action.EXECUTE))


def deadline_wins(saga: Saga, event: ev.TimedOut, now: int) -> Transition:
    undoes = first_due(saga)[1].action is Action.COMPENSATE
    if event.seq == saga.seq and undoes and now >= saga.deadline_ms:
        return Transition(end(saga, COMPENSATED, now), Note.COMPENSATED)
    return handlers.timed_out(saga, event, now)


def confirms_at_once(saga: Saga, place: int, now: int) -> Saga:
    if saga.plan.steps[place].confirms:
        return issue(saga, Action.CONFIRM, place, 1, now)
    return proceed(saga, place, now)


def never_confirms(saga: Saga, after: int, now: int) -> Saga:
    return end(saga, COMPLETED, now)


def deaf_to_unknown(saga: Saga, place: int, event: ev.Failed) -> Saga:
    return moves.answered(saga, place, event.seq)


def reuses_anything(saga: Saga, event: ev.Redriven, now: int) -> Transition:
    kind = StepStatus.SUCCEEDED
    whole = tuple(replace(step, undo=Undo.NONE, status=kind) for step in saga.steps)
    return handlers.redrive(replace(saga, steps=whole), event, now)


def hasty_redrive(saga: Saga, event: ev.Redriven, now: int) -> Transition:
    answered = tuple(replace(step, unanswered=()) for step in saga.steps)
    return handlers.redrive(replace(saga, steps=answered), event, now)


def never_withdraws(saga: Saga) -> bool:
    return False


def any_run(saga: Saga | None, event: ev.Event) -> Any:
    if saga is not None and isinstance(event, ev.Reply) and event.run < saga.run:
        return None if saga.plan.index(event.step) >= 0 else misaddressed(saga, event)
    return misaddressed(saga, event)


def any_compensated(saga: Saga, event: ev.Compensated, now: int) -> Transition:
    """An answer to any compensation of the step counts, however early it was."""
    place = saga.plan.index(event.step)
    if flight_of(saga, place, Action.COMPENSATE) is None:
        return Transition(saga, Note.IGNORED)
    return Transition(undo_next(with_step(saga, place, undo=Undo.DONE, in_flight=None), now), Note.STEP_COMPENSATED)


def settles_whatever(saga: Saga, event: ev.Succeeded, now: int) -> Transition:
    place, flight = first_due(saga)
    if flight.action is not Action.EXECUTE:
        return handlers.settle(saga, event, now)
    return handlers.settle(saga, replace(event, step=saga.plan.steps[place].name), now)


def believes_old_failures(saga: Saga, event: ev.Failed, now: int) -> Transition:
    place = saga.plan.index(event.step)
    flight = flight_of(saga, place, Action.EXECUTE)
    if flight is None:
        return handlers.retry_or_compensate(saga, event, now)
    noted = handlers.note_failure(saga, place, event)
    if event.retryable and (again := retry(noted, place, flight, now, event.retry_after_ms)):
        return Transition(again, Note.RETRYING)
    return Transition(abort(with_step(noted, place, status=StepStatus.FAILED), place, event.reason, now), Note.ABORTED)


def attempt_one(saga: Saga, action: Action, place: int, attempt: int, now: int) -> Saga:
    return issue(saga, action, place, 1, now)


def no_alarm(saga: Saga, place: int, flight: InFlight, at: int) -> Saga:
    return moves.with_flight(saga, place, replace(flight, command_seq=0, due_ms=0))


def unrecorded(saga: Saga, what: str, by: str, reason: str, now: int) -> Saga:
    return saga


def resume_as_done(saga: Saga, event: ev.Resumed, now: int) -> Transition:
    place, flight = first_due(saga)
    if flight.action is Action.COMPENSATE and event.mode is ev.ResumeMode.RETRY:
        noted = moves.with_operator_action(saga, "resumed", event.by, event.reason, now)
        done = with_step(noted, place, undo=Undo.DONE, in_flight=None)
        return Transition(undo_next(done, now), Note.RESUMED)
    return handlers.resume(saga, event, now)


def resume_from_the_start(saga: Saga, event: ev.Resumed, now: int) -> Transition:
    noted = moves.with_operator_action(saga, "resumed", event.by, event.reason, now)
    place, _ = first_due(noted)
    going = with_step(replace(noted, phase=RUNNING), place, in_flight=None)
    return Transition(issue(going, Action.EXECUTE, 0, 1, now), Note.RESUMED)


def cancels_the_completed(saga: Saga, event: ev.Cancelled, now: int) -> Transition:
    noted = moves.with_operator_action(saga, "cancelled", event.by, "", now)
    return Transition(abort(noted, len(saga.steps) - 1, "cancelled", now), Note.ABORTED)


def same_run(saga: Saga, event: ev.Submitted, now: int) -> Transition:
    answer = handlers.resubmit(saga, event, now)
    if answer.note is Note.STARTED and answer.saga is not None:
        return Transition(replace(answer.saga, run=saga.run), Note.STARTED)
    return answer


def numbers_from_one(saga: Saga, event: ev.Submitted, now: int) -> Transition:
    answer = handlers.resubmit(saga, event, now)
    if answer.note is Note.STARTED and answer.saga is not None:
        fresh = handlers.start(event, event.plan, saga.run + 1, 0, now)
        return Transition(issue(fresh, Action.EXECUTE, 0, 1, now), Note.STARTED)
    return answer


def unnumbered(saga: Saga, seq: int) -> Saga:
    return saga


def run_one(saga: None, event: ev.Submitted, now: int) -> Transition:
    return Transition(issue(handlers.start(event, event.plan, 1, 0, now), Action.EXECUTE, 0, 1, now), Note.STARTED)


def only_the_latest(saga: Saga, event: ev.Succeeded, now: int) -> Transition:
    """Only the latest attempt may succeed; an earlier one is taken as answered."""
    place = saga.plan.index(event.step)
    flight = saga.steps[place].in_flight
    if flight is None or event.seq != flight.command_seq:
        return Transition(moves.answered(saga, place, event.seq), Note.IGNORED)
    return handlers.settle(saga, event, now)


def resurrects(saga: Saga, event: ev.Succeeded, now: int) -> Transition:
    place = saga.plan.index(event.step)
    steps = tuple(moves.landed(step) for step in saga.steps)
    done = with_step(replace(saga, phase=RUNNING, steps=steps), place, status=StepStatus.SUCCEEDED)
    return Transition(proceed(done, place, now), Note.ADVANCED)


def forgetful(saga: Saga, event: ev.Submitted) -> Saga:
    return saga if saga.phase is not COMPENSATED else replace(saga, origins=(event.origin,))


def no_retry_after(saga: Saga, place: int, flight: InFlight, now: int, after_ms: int) -> Saga | None:
    return retry(saga, place, flight, now, 0)


def cancels_confirmations(saga: Saga, event: ev.Cancelled, now: int) -> Transition:
    if first_due(saga)[1].action is Action.CONFIRM:
        return cancels_the_completed(saga, event, now)
    return handlers.cancel(saga, event, now)


def forgets_open_attempts(saga: Saga, action: Action, place: int, attempt: int, now: int) -> Saga:
    bare = with_step(saga, place, unanswered=(), outcome_unknown=False) if action is Action.EXECUTE else saga
    return issue(bare, action, place, attempt, now)


def undoes_the_reused(saga: Saga, place: int, reason: str, now: int) -> Saga:
    mine = tuple(replace(s, status=StepStatus.SUCCEEDED) if s.status is StepStatus.REUSED else s for s in saga.steps)
    return abort(replace(saga, steps=mine), place, reason, now)


def lets_seq_stand(saga: Saga | None, event: ev.Event, now: int) -> Any:
    made = decide(saga, event, now)
    if saga is not None and made.saga is not None and made.changed and made.note is Note.ANSWERED:
        return made._replace(saga=replace(made.saga, seq=saga.seq))
    return made


decide = protocol.decide


def undoes_once(saga: Saga, event: ev.Succeeded, now: int) -> Transition:
    """A late success of a step that was undone already changes nothing."""
    if saga.steps[saga.plan.index(event.step)].undo is Undo.DONE:
        return Transition(moves.answered(saga, saga.plan.index(event.step), event.seq), Note.IGNORED)
    return handlers.late_effect(saga, event, now)


def abandons_the_wait(saga: Saga, event: ev.TimedOut, now: int) -> Transition:
    """A retry whose time has come is forgotten: it waits once more, for ever."""
    place, flight = first_due(saga)
    if event.seq == saga.seq and now >= saga.due_ms and not flight.command_seq:
        return Transition(moves.wait_until(saga, place, flight, now + 1), Note.RETRYING)
    return handlers.timed_out(saga, event, now)


def stops_at_the_first(saga: Saga, event: ev.Compensated, now: int) -> Transition:
    """One compensation, and the saga is over."""
    place = saga.plan.index(event.step)
    if flight_of(saga, place, Action.COMPENSATE) is None:
        return Transition(saga, Note.IGNORED)
    return Transition(end(with_step(saga, place, undo=Undo.DONE), COMPENSATED, now), Note.COMPENSATED)


def wrong_compensated(saga: Saga, event: ev.Compensated, now: int) -> Transition:
    """An answer to another step's compensation passes for the current one's."""
    place, _ = first_due(saga)
    return handlers.compensated(saga, replace(event, step=saga.plan.steps[place].name), now)


TIMERS = [(RUNNING, ev.TimedOut), (COMPENSATING, ev.TimedOut)]
ENDS = [(COMPLETED, ev.Submitted), (COMPENSATED, ev.Submitted)]
REDRIVES = [(COMPLETED, ev.Redriven), (COMPENSATED, ev.Redriven)]
IN_THE_RULES = [
    Bug("a fresh idempotency key per attempt", swapped(protocol, "outstanding", key_per_attempt)),
    Bug("the stale timer check removed", handler(TIMERS, any_timer)),
    Bug("a timer accepted early", handler(TIMERS, impatient)),
    Bug(
        "an ended saga forgotten early", handler([(COMPLETED, ev.TimedOut), (COMPENSATED, ev.TimedOut)], keeps_no_time)
    ),
    Bug("a timeout taken for a failure without effect", handler(TIMERS, harmless_timeout)),
    Bug("only what succeeded is compensated", everywhere("maybe_happened", lambda s: s.status is StepStatus.SUCCEEDED)),
    Bug("only what has an unknown outcome is compensated", everywhere("maybe_happened", lambda s: s.outcome_unknown)),
    Bug(
        "compensation of the unanswered skipped",
        everywhere("maybe_happened", lambda s: maybe_happened(replace(s, unanswered=()))),
    ),
    Bug("compensations in the order of the steps", everywhere("undo_next", first_first)),
    Bug("compensation ends with the first step", handler([(COMPENSATING, ev.Compensated)], stops_at_the_first)),
    Bug("another step's Compensated accepted", handler([(COMPENSATING, ev.Compensated)], wrong_compensated)),
    Bug("late success after the end ignored", handler([(COMPENSATED, ev.Succeeded)], handlers.ignore)),
    Bug("late success while undoing ignored", handler([(COMPENSATING, ev.Succeeded)], handlers.ignore)),
    Bug("late success of an undone step ignored", handler([(COMPENSATING, ev.Succeeded)], undoes_once)),
    Bug("late success while parked ignored", handler([(PARKED, ev.Succeeded)], handlers.ignore)),
    Bug("late success resurrects the saga", handler([(COMPENSATING, ev.Succeeded)], resurrects)),
    Bug(
        "late unknown outcome ignored", handler([(COMPENSATED, ev.Failed), (COMPENSATING, ev.Failed)], handlers.ignore)
    ),
    Bug("a Compensated of an earlier round counts", handler([(COMPENSATING, ev.Compensated)], any_compensated)),
    Bug("a duplicate starts a second run", swapped(handlers, "seen", lambda saga, event: False)),
    Bug("a duplicate restarts the running saga", handler([(RUNNING, ev.Submitted)], restarts)),
    Bug("a submission is decided twice", swapped(handlers, "remembered", forgetful)),
    Bug("a retry after the abort", handler([(COMPENSATING, ev.Failed)], tries_again)),
    Bug("cancel loses the running step", handler([(RUNNING, ev.Cancelled)], cancel_forgets)),
    Bug("cancel undoes a completed saga", handler([(COMPLETED, ev.Cancelled)], cancels_the_completed)),
    Bug("cancel accepted while confirming", handler([(RUNNING, ev.Cancelled)], cancels_confirmations)),
    Bug("a compensation vanishes after its budget", handler([(COMPENSATING, ev.CompensationFailed)], gives_up)),
    Bug("parked forgets its action", everywhere("park", amnesiac_park)),
    Bug("resume takes the compensation as done", handler([(PARKED, ev.Resumed)], resume_as_done)),
    Bug("resume starts the saga over", handler([(PARKED, ev.Resumed)], resume_from_the_start)),
    Bug("manual acts not recorded", everywhere("with_operator_action", unrecorded)),
    Bug("the deadline ends a compensation", handler([(COMPENSATING, ev.TimedOut)], deadline_wins)),
    Bug("confirmed before the end", everywhere("proceed", confirms_at_once)),
    Bug("never confirmed", everywhere("confirm_next", never_confirms)),
    Bug("unknown treated as failed", swapped(handlers, "note_failure", deaf_to_unknown)),
    Bug("an old attempt's failure believed", handler([(RUNNING, ev.Failed)], believes_old_failures)),
    Bug("an old attempt's success thrown away", handler([(RUNNING, ev.Succeeded)], only_the_latest)),
    Bug("a success settles whatever is current", handler([(RUNNING, ev.Succeeded)], settles_whatever)),
    Bug("a reply of an earlier run accepted", swapped(protocol, "_misaddressed", any_run)),
    Bug("attempts not counted", everywhere("issue", attempt_one)),
    Bug("open attempts forgotten by the next one", everywhere("issue", forgets_open_attempts)),
    Bug("a waiting retry without a timer", everywhere("wait_until", no_alarm)),
    Bug("a due retry forgotten", handler(TIMERS, abandons_the_wait)),
    Bug("Retry-After ignored", swapped(handlers, "retry", no_retry_after)),
    Bug("redrive reuses an undone result", handler(REDRIVES, reuses_anything)),
    Bug("redrive beside unanswered commands", handler(REDRIVES, hasty_redrive)),
    Bug("reused results are undone", everywhere("abort", undoes_the_reused)),
    Bug("the record outlives the failed rerun", swapped(handlers, "stands", never_withdraws)),
    Bug("a new run under the old number", handler(ENDS, same_run)),
    Bug("numbers start over with a new run", handler(ENDS, numbers_from_one)),
    Bug("numbers start over after the retention", swapped(protocol, "_numbered_from", unnumbered)),
    Bug("keys come again after the retention", handler([(Phase.NEW, ev.Submitted)], run_one)),
    Bug("seq stands still for small changes", swapped(protocol, "decide", lets_seq_stand)),
]
