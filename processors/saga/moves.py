"""The moves that handlers are made of: issue a command, wait for a retry, abort, undo the next step, end.

Every move takes the saga as it stands before the event and returns the next one, with the number that it will be saved
under (`seq + 1`) already in `command_seq` where a command is issued. `decide` fills in `seq` and `updated_ms`.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from msgspec.structs import replace

from processors.saga.plan import Plan, RetryPolicy, StepPlan
from processors.saga.state import Action, Phase, Saga, StepState, StepStatus, Undo


def with_step(saga: Saga, place: int, **changes: Any) -> Saga:
    """Return the saga with one step's state changed."""
    steps = saga.steps
    changed = replace(steps[place], **changes)
    return replace(saga, steps=steps[:place] + (changed,) + steps[place + 1 :])


def issue(saga: Saga, action: Action, place: int, attempt: int, now: int) -> Saga:
    """Command a step. The first attempt starts the clock of the retry policy's total time."""
    planned = saga.plan.steps[place]
    seq = saga.seq + 1
    if action is Action.EXECUTE:
        step = saga.steps[place]
        saga = with_step(saga, place, status=StepStatus.COMMANDED, attempts=attempt, unanswered=(*step.unanswered, seq))
        due = now + planned.queue_timeout_ms + planned.timeout_ms
        # A saga's deadline bounds its actions only: an undo that has begun is never given up for lack of time.
        if saga.deadline_ms:
            due = min(due, saga.deadline_ms)
    else:
        due = now + planned.queue_timeout_ms + planned.undo_timeout_ms
    return replace(
        saga,
        cursor=place,
        action=action,
        attempt=attempt,
        command_seq=seq,
        due_ms=due,
        first_ms=now if attempt == 1 else saga.first_ms,
    )


def policy_of(planned: StepPlan, action: Action) -> RetryPolicy:
    """Return the retry policy: compensations and confirmations share the longer one."""
    return planned.retry if action is Action.EXECUTE else planned.undo_retry


def jitter(saga: Saga) -> float:
    """Return a number in [0, 1) that depends on the saga's place alone, so that a replay waits as long."""
    return crc32(f"{saga.job_id}:{saga.run}:{saga.seq}".encode()) / 2**32


def backoff_ms(policy: RetryPolicy, attempt: int, spread: float) -> int:
    """Return how long to wait after an attempt: capped exponential backoff with full jitter.

    Source: Marc Brooker, "Exponential Backoff And Jitter", 2015. `spread` is the jitter in [0, 1).
    """
    ceiling = min(policy.cap_ms, policy.base_ms * 2 ** min(attempt - 1, 32))
    return int(ceiling * spread)


def retry_at(saga: Saga, now: int, after_ms: int) -> int | None:
    """Return when the next attempt may start, or None if attempts or time have run out."""
    policy = policy_of(saga.current, saga.action)
    if saga.attempt >= policy.attempts:
        return None
    at = now + max(after_ms, backoff_ms(policy, saga.attempt, jitter(saga)))
    if at > saga.first_ms + policy.total_ms:
        return None
    if saga.action is Action.EXECUTE and saga.deadline_ms and at >= saga.deadline_ms:
        return None
    return at


def wait_until(saga: Saga, at: int) -> Saga:
    """Let a retry wait as a durable timer; nothing is under way meanwhile."""
    return replace(saga, command_seq=0, due_ms=at)


def retry(saga: Saga, now: int, after_ms: int) -> Saga | None:
    """Schedule the next attempt of what is under way, or return None if there is none left.

    One that is due at once is issued at once: a timer would only add a round trip.
    """
    at = retry_at(saga, now, after_ms)
    if at is None:
        return None
    if at <= now:
        return issue(saga, saga.action, saga.cursor, saga.attempt + 1, now)
    return wait_until(saga, at)


def maybe_happened(step: StepState) -> bool:
    """True if the step's effect may be there: done, unsure, or commanded and not answered."""
    return step.status is StepStatus.SUCCEEDED or (
        step.status in (StepStatus.COMMANDED, StepStatus.FAILED) and (step.outcome_unknown or bool(step.unanswered))
    )


def abort(saga: Saga, reason: str, now: int) -> Saga:
    """Give up the run: mark every step that was done or may have been done, and undo the last of them.

    A run that follows a completed one replaces its record. If it fails, that record is withdrawn too, so that a
    compensated job has none: the steps that it didn't reach are compensated as well (they find nothing, or an old row).
    Reused results stay: they belong to the run that made them, and the next redrive needs them.
    """
    steps = tuple(
        replace(step, undo=Undo.NEEDED)
        if planned.undoable and step.status is not StepStatus.REUSED and (saga.withdraws or maybe_happened(step))
        else step
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True)
    )
    aborted = replace(
        saga,
        phase=Phase.COMPENSATING,
        steps=steps,
        reason=reason,
        failed_step=saga.current.name,
    )
    return undo_next(aborted, now)


def undo_next(saga: Saga, now: int) -> Saga:
    """Compensate the last step that still needs it, or end the run."""
    for place in range(len(saga.steps) - 1, -1, -1):
        if saga.steps[place].undo is Undo.NEEDED:
            compensating = replace(saga, phase=Phase.COMPENSATING)
            return issue(compensating, Action.COMPENSATE, place, 1, now)
    return end(saga, Phase.COMPENSATED, now)


def confirm_next(saga: Saga, after: int, now: int) -> Saga:
    """Confirm the next step behind `after` that asks for it, or complete the saga."""
    for place in range(after + 1, len(saga.steps)):
        if saga.plan.steps[place].confirms and saga.steps[place].status is StepStatus.SUCCEEDED:
            running = replace(saga, phase=Phase.RUNNING)
            return issue(running, Action.CONFIRM, place, 1, now)
    return end(saga, Phase.COMPLETED, now)


def deadline_of(plan: Plan, now: int) -> int:
    """Return when a run that goes off now runs out of time; 0: never."""
    return now + plan.deadline_ms if plan.deadline_ms else 0


def proceed(saga: Saga, now: int) -> Saga:
    """Go on behind the current step, which has succeeded: the next one, or the confirmations, or the end."""
    following = saga.cursor + 1
    if following < len(saga.steps):
        return issue(saga, Action.EXECUTE, following, 1, now)
    return confirm_next(saga, -1, now)


def end(saga: Saga, phase: Phase, now: int) -> Saga:
    """End the run; its state is forgotten once the retention is over."""
    return replace(saga, phase=phase, command_seq=0, attempt=0, due_ms=now + saga.plan.retention_ms)


def park(saga: Saga, reason: str) -> Saga:
    """Stop and wait for a person. No timer runs: only an operator or a late reply moves a parked saga."""
    return replace(saga, phase=Phase.PARKED, due_ms=0, reason=reason)


def answered(saga: Saga, place: int, seq: int) -> Saga:
    """Note that an Execute has been answered."""
    step = saga.steps[place]
    if seq not in step.unanswered:
        return saga
    return with_step(saga, place, unanswered=tuple(one for one in step.unanswered if one != seq))


def with_operator_action(saga: Saga, what: str, by: str, reason: str, now: int) -> Saga:
    """Record a manual act in the state itself; the last 20 are kept (scrape.events keeps them all)."""
    line = f"{now} {what} by {by}" + (f": {reason}" if reason else "")
    return replace(saga, operator_actions=(*saga.operator_actions[-19:], line))
