"""The parts of handlers: issue a command, wait for a retry, abort, undo the next step, end.

Every move takes the saga as it stands before the event and returns the next one, with the number that it will be saved
under (`seq + 1`) already in the step's `command_seq` where a command is issued. `decide` fills in `seq` and `updated_ms`.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from msgspec.structs import replace

from processors.errors import ProtocolViolation
from processors.saga.plan import Plan, RetryPolicy, StepPlan
from processors.saga.reason import bounded_reason
from processors.saga.state import Action, InFlight, Phase, Saga, StepState, StepStatus, Undo

#: The largest sum of payload and outputs in a state or a command. The topics of both accept 4 MiB;
#: the rest is for reasons, operator actions and names.
MAX_CARRIED_BYTES = 3 * 1024 * 1024


def with_step(saga: Saga, place: int, **changes: Any) -> Saga:
    """Return the saga with one step's state changed."""
    steps = saga.steps
    changed = replace(steps[place], **changes)
    return replace(saga, steps=steps[:place] + (changed,) + steps[place + 1 :])


def with_flight(saga: Saga, place: int, flight: InFlight | None, **changes: Any) -> Saga:
    """Return the saga with another command in flight at one step, and its timer set to the earliest due time."""
    steps = saga.steps
    changed = replace(steps[place], in_flight=flight, **changes)
    steps = steps[:place] + (changed,) + steps[place + 1 :]
    due_ms = min((step.in_flight.due_ms for step in steps if step.in_flight is not None), default=0)
    return replace(saga, steps=steps, due_ms=due_ms)


def flight_of(saga: Saga, place: int, action: Action) -> InFlight | None:
    """Return the command in flight at a step if it has this action, else None."""
    flight = saga.steps[place].in_flight
    return flight if flight is not None and flight.action is action else None


def first_due(saga: Saga) -> tuple[int, InFlight]:
    """Return the step whose timer is due first, and its command in flight. Raises ProtocolViolation if there is none."""
    first: tuple[int, InFlight] | None = None
    for place, step in enumerate(saga.steps):
        flight = step.in_flight
        if flight is not None and (first is None or flight.due_ms < first[1].due_ms):
            first = place, flight
    if first is None:
        raise ProtocolViolation(f"nothing is under way in job {saga.job_id}, which is {saga.phase}")
    return first


def issue(saga: Saga, action: Action, place: int, attempt: int, now: int) -> Saga:
    """Issue a command to a step. The total time of the retry policy starts with the first attempt."""
    planned = saga.plan.steps[place]
    seq = saga.seq + 1
    step = saga.steps[place]
    before = step.in_flight
    first = before.first_ms if before is not None and attempt > 1 else now
    if action is not Action.EXECUTE:
        due = now + planned.queue_timeout_ms + planned.undo_timeout_ms
        return with_flight(saga, place, InFlight(action, attempt, seq, due, first))
    due = now + planned.queue_timeout_ms + planned.timeout_ms
    # The deadline of a saga limits only its actions: a compensation is never stopped because of it.
    if saga.deadline_ms:
        due = min(due, saga.deadline_ms)
    flight = InFlight(action, attempt, seq, due, first)
    return with_flight(
        saga, place, flight, status=StepStatus.COMMANDED, attempts=attempt, unanswered=(*step.unanswered, seq)
    )


def policy_of(planned: StepPlan, action: Action) -> RetryPolicy:
    """Return the retry policy: compensations and confirmations share the longer one."""
    return planned.retry if action is Action.EXECUTE else planned.undo_retry


def jitter(saga: Saga) -> float:
    """Return a number in [0, 1) that depends only on the saga and its seq, so that a replay waits equally long."""
    return crc32(f"{saga.job_id}:{saga.run}:{saga.seq}".encode()) / 2**32


def backoff_ms(policy: RetryPolicy, attempt: int, spread: float) -> int:
    """Return how long to wait after an attempt: capped exponential backoff with full jitter.

    Source: Marc Brooker, "Exponential Backoff And Jitter", 2015. `spread` is the jitter in [0, 1).
    """
    ceiling = min(policy.cap_ms, policy.base_ms * 2 ** min(attempt - 1, 32))
    return int(ceiling * spread)


def retry_at(saga: Saga, place: int, flight: InFlight, now: int, after_ms: int) -> int | None:
    """Return when the next attempt of a command in flight may start, or None if no attempt or no time is left."""
    policy = policy_of(saga.plan.steps[place], flight.action)
    if flight.attempt >= policy.attempts:
        return None
    at = now + max(after_ms, backoff_ms(policy, flight.attempt, jitter(saga)))
    if at > flight.first_ms + policy.total_ms:
        return None
    if flight.action is Action.EXECUTE and saga.deadline_ms and at >= saga.deadline_ms:
        return None
    return at


def wait_until(saga: Saga, place: int, flight: InFlight, at: int) -> Saga:
    """Wait for a retry with a durable timer; meanwhile the step has no command in flight."""
    return with_flight(saga, place, replace(flight, command_seq=0, due_ms=at))


def retry(saga: Saga, place: int, flight: InFlight, now: int, after_ms: int) -> Saga | None:
    """Schedule the next attempt of the command in flight at a step, or return None if none is left.

    One that is due at once is issued at once: a timer would only add a round trip.
    """
    at = retry_at(saga, place, flight, now, after_ms)
    if at is None:
        return None
    if at <= now:
        return issue(saga, flight.action, place, flight.attempt + 1, now)
    return wait_until(saga, place, flight, at)


def outgrows(saga: Saga, output: bytes) -> bool:
    """True if the saga would exceed MAX_CARRIED_BYTES with this output."""
    carried = len(saga.payload) + len(output)
    return carried + sum(len(step.output) for step in saga.steps) > MAX_CARRIED_BYTES


def maybe_happened(step: StepState) -> bool:
    """True if the step may have had its effect: it succeeded, its outcome is unknown, or a command is unanswered."""
    return step.status is StepStatus.SUCCEEDED or (
        step.status in (StepStatus.COMMANDED, StepStatus.FAILED) and (step.outcome_unknown or bool(step.unanswered))
    )


def undoing(saga: Saga) -> bool:
    """True if the run was aborted: it is being compensated, was parked while compensating, or is compensated."""
    if saga.phase is Phase.PARKED:
        return any(flight_of(saga, place, Action.COMPENSATE) for place in saga.in_flight)
    return saga.phase is Phase.COMPENSATING or saga.phase is Phase.COMPENSATED


def abort(saga: Saga, place: int, reason: str, now: int) -> Saga:
    """Abort the run at a step: mark every step that had or may have had its effect, and compensate the last of them.

    Whatever else is under way is under way no more: what of it was sent and not answered counts as maybe done.

    A run that follows a completed one replaces its record. If it fails, that record is withdrawn too, so that a
    compensated job has none: the steps that it didn't reach are compensated as well (they find nothing, or an old row).
    Reused results stay: they belong to the run that made them, and the next redrive needs them.
    """
    steps = tuple(
        replace(step, undo=Undo.NEEDED, in_flight=None)
        if planned.undoable and step.status is not StepStatus.REUSED and (saga.withdraws or maybe_happened(step))
        else landed(step)
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True)
    )
    aborted = replace(
        saga,
        phase=Phase.COMPENSATING,
        steps=steps,
        reason=reason,
        failed_step=saga.plan.steps[place].name,
    )
    return undo_next(aborted, now)


def landed(step: StepState) -> StepState:
    """Return a step without a command in flight."""
    return step if step.in_flight is None else replace(step, in_flight=None)


def undo_next(saga: Saga, now: int) -> Saga:
    """Compensate the last step that still needs it, or end the run."""
    for place in range(len(saga.steps) - 1, -1, -1):
        if saga.steps[place].undo is Undo.NEEDED:
            compensating = replace(saga, phase=Phase.COMPENSATING)
            return issue(compensating, Action.COMPENSATE, place, 1, now)
    return end(saga, Phase.COMPENSATED, now)


def confirm_next(saga: Saga, after: int, now: int) -> Saga:
    """Confirm the next step after `after` that has a confirmation, or complete the saga."""
    for place in range(after + 1, len(saga.steps)):
        if saga.plan.steps[place].confirms and saga.steps[place].status is StepStatus.SUCCEEDED:
            running = replace(saga, phase=Phase.RUNNING)
            return issue(running, Action.CONFIRM, place, 1, now)
    return end(saga, Phase.COMPLETED, now)


def deadline_of(plan: Plan, now: int) -> int:
    """Return the deadline of a run that starts now; 0: none."""
    return now + plan.deadline_ms if plan.deadline_ms else 0


def proceed(saga: Saga, place: int, now: int) -> Saga:
    """Continue after a step that has succeeded: with the next step, the confirmations, or the end."""
    following = place + 1
    if following < len(saga.steps):
        return issue(saga, Action.EXECUTE, following, 1, now)
    return confirm_next(saga, -1, now)


def end(saga: Saga, phase: Phase, now: int) -> Saga:
    """End the run; its state is deleted when the retention is over."""
    steps = tuple(landed(step) for step in saga.steps)
    return replace(saga, phase=phase, steps=steps, due_ms=now + saga.plan.retention_ms)


def park(saga: Saga, reason: str) -> Saga:
    """Stop and wait for an operator. No timer is armed: only an operator or a late reply changes a parked saga."""
    return replace(saga, phase=Phase.PARKED, due_ms=0, reason=bounded_reason(reason))


def answered(saga: Saga, place: int, seq: int) -> Saga:
    """Record that an Execute has been answered."""
    step = saga.steps[place]
    if seq not in step.unanswered:
        return saga
    return with_step(saga, place, unanswered=tuple(one for one in step.unanswered if one != seq))


def with_operator_action(saga: Saga, what: str, by: str, reason: str, now: int) -> Saga:
    """Record an operator action in the state. It keeps the last 20; scrape.events has all."""
    line = f"{now} {what} by {by}" + (f": {reason}" if reason else "")
    return replace(saga, operator_actions=(*saga.operator_actions[-19:], line))
