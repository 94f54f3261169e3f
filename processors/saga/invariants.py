"""The invariants of every saga, independent of the rules: for single states, single decisions and whole logs.

The simulator, the exhaustive walk, chaos runs and the audit of a live log all call these functions. They share no code
with the handlers: a rule that is wrong there must not be wrong here in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from processors.saga.commands import Command, Note, StepCommand
from processors.saga.events import (
    Cancelled,
    Compensated,
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
from processors.saga.protocol import Decision, advance, poisoned
from processors.saga.state import ENDED, Action, Phase, Saga, StepState, StepStatus, Undo, idempotency_key


class LogPosition(NamedTuple):
    """The position of a record, which identifies it."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}@{self.offset}"


class Violation(NamedTuple):
    """A rule that does not hold: the rule, the job, the details, and the position of the record that shows it, if any."""

    rule: str
    job_id: str
    detail: str
    position: LogPosition | None = None

    def __str__(self) -> str:
        if self.position is None:
            return f"{self.rule}: job {self.job_id}: {self.detail}"
        whose = f" of job {self.job_id}" if self.job_id else ""
        return f"{self.rule}: {self.position}{whose}: {self.detail}"


class EventRecord(NamedTuple):
    """One record of scrape.events: its offset, the broker's timestamp, the event."""

    offset: int
    timestamp_ms: int
    event: Event


# --- a state ----------------------------------------------------------------------------------------------------------


def check_state(saga: Saga) -> list[Violation]:
    """Return the violations in a single state."""
    violations = []

    def rule(name: str, detail: str) -> None:
        violations.append(Violation(name, saga.job_id, detail))

    if len(saga.steps) != len(saga.plan.steps):
        rule("one state per step", f"{len(saga.steps)} of {len(saga.plan.steps)}")
        return violations
    if saga.phase is Phase.COMPLETED:
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True):
            if step.status not in (StepStatus.SUCCEEDED, StepStatus.REUSED):
                rule("completed means every step succeeded", f"{planned.name} is {step.status}")
    if saga.phase is Phase.COMPENSATED:
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True):
            if step.undo is Undo.NEEDED:
                rule("compensated means nothing is left to undo", f"{planned.name} still needs it")
            if step.status is StepStatus.SUCCEEDED and planned.undoable and step.undo is Undo.NONE:
                rule("compensated means nothing is left to undo", f"{planned.name} succeeded and was never undone")
    if saga.phase is Phase.RUNNING and any(step.undo is not Undo.NONE for step in saga.steps):
        rule("nothing is undone while a run goes on", str([step.undo.value for step in saga.steps]))
    if saga.phase in (Phase.RUNNING, Phase.COMPENSATING):
        due = [step.in_flight.due_ms for step in saga.steps if step.in_flight is not None]
        if not saga.due_ms or saga.due_ms != min(due, default=0):
            rule("what is under way has a timer", f"{saga.phase} with one at {saga.due_ms}, and due are {due}")
    if saga.phase in ENDED and any(step.in_flight is not None for step in saga.steps):
        rule("nothing is under way after the end", f"{saga.phase} while {saga.at} is")
    if saga.phase is Phase.PARKED and all(step.in_flight is None for step in saga.steps):
        rule("parked says where it stopped", "nothing to resume")
    if saga.phase is Phase.PARKED and not saga.reason:
        rule("parked is never silent", "no reason")
    if saga.offset >= 0 and saga.seq > saga.offset + 1:
        rule(
            "numbers stay below the inbox", f"seq {saga.seq} at offset {saga.offset}: the job's next life may be below"
        )
    return violations


# --- a decision ---------------------------------------------------------------------------------------------------------


def check_decision(before: Saga | None, event: Event, now: int, decision: Decision) -> list[Violation]:
    """Return the violations in one transition and its commands."""
    after = decision.saga
    violations = [] if after is None else check_state(after)
    job_id = event.job_id

    def rule(name: str, detail: str) -> None:
        violations.append(Violation(name, job_id, detail))

    if before is not None and after is not None:
        if decision.changed and after.seq != before.seq + 1:
            rule("seq grows by one", f"{before.seq} to {after.seq}")
        if after.run not in (before.run, before.run + 1):
            rule("runs are counted", f"{before.run} to {after.run}")
        if after.run == before.run:
            violations += _check_same_run(before, after)
            violations += _check_answers(before, event, after, decision)
        else:
            violations += _check_new_run(before, after, event)
    if after is None and before is not None and before.phase not in ENDED:
        rule("nothing is forgotten before its end", f"in {before.phase}")
    if isinstance(event, TimedOut) and decision.changed and before is not None and _is_early(before, event, now):
        rule("no timer early", f"timer {event.seq} at {now}; the state's is {before.seq} at {before.due_ms}")
    if (
        isinstance(event, Cancelled | Resumed | Redriven)
        and decision.note in _OPERATOR_NOTES
        and not _is_recorded(after, event)
    ):
        rule("every manual act is recorded", f"{type(event).__name__} by {event.by}")
    if isinstance(event, Failed) and decision.note is Note.RETRYING and after is not None:
        flight = after.steps[after.plan.index(event.step)].in_flight
        starts = 0 if flight is None else now if flight.command_seq else flight.due_ms
        if starts < now + event.retry_after_ms:
            rule(
                "Retry-After is honoured", f"the next attempt is due {now + event.retry_after_ms - starts} ms too early"
            )
    if isinstance(event, Resumed) and event.mode is ResumeMode.SKIP and decision.changed and not event.reason:
        rule("every manual act is recorded", "skipped without a reason")
    if after is not None:
        for command in decision.commands:
            violations += check_command(before, after, command)
    return violations


_OPERATOR_NOTES = frozenset({Note.ABORTED, Note.RESUMED, Note.STARTED})


def _is_early(before: Saga, event: TimedOut, now: int) -> bool:
    return now < before.due_ms or event.seq != before.seq


def _is_recorded(after: Saga | None, event: Cancelled | Resumed | Redriven) -> bool:
    return after is not None and bool(after.operator_actions) and event.by in after.operator_actions[-1]


def _check_same_run(before: Saga, after: Saga) -> list[Violation]:
    violations = []

    def rule(name: str, detail: str) -> None:
        violations.append(Violation(name, after.job_id, detail))

    if before.phase is Phase.COMPLETED and after.phase is not Phase.COMPLETED:
        rule("one outcome per run", f"COMPLETED to {after.phase}")
    if _acts(before, Action.CONFIRM) and after.phase in (Phase.COMPENSATING, Phase.COMPENSATED):
        rule("what is being confirmed is not aborted", f"in {before.phase}")
    if before.phase in (Phase.COMPENSATED, Phase.COMPENSATING) and after.phase in (Phase.RUNNING, Phase.COMPLETED):
        rule("one outcome per run", f"{before.phase} to {after.phase}")
    if after.plan.hash != before.plan.hash:
        rule("the plan is pinned", f"{before.plan.hash} to {after.plan.hash}")
    for planned, old, new in zip(after.plan.steps, before.steps, after.steps, strict=True):
        if old.status is StepStatus.SUCCEEDED and new.status is not StepStatus.SUCCEEDED:
            rule("a success is not unlearned", f"{planned.name} became {new.status}")
        if old.undo is Undo.NEEDED and new.undo is Undo.NONE:
            rule("compensations never vanish", f"that of {planned.name} did")
        if old.outcome_unknown and not new.outcome_unknown:
            rule("an unknown outcome is not unlearned", planned.name)
    aborting = after.phase in (Phase.COMPENSATING, Phase.COMPENSATED)
    if aborting and before.phase in (Phase.RUNNING, Phase.PARKED) and _acts(before, Action.EXECUTE):
        for planned, old, new in zip(after.plan.steps, before.steps, after.steps, strict=True):
            if planned.undoable and old.status is StepStatus.SUCCEEDED and new.undo is Undo.NONE:
                rule("what was done is undone", f"{planned.name} succeeded and isn't marked")
            if planned.undoable and _may_be_done(old, new) and new.undo is Undo.NONE:
                rule("unknown means undo", f"{planned.name} isn't marked")
    return violations


def _check_answers(before: Saga, event: Event, after: Saga, decision: Decision) -> list[Violation]:
    """A reply changes only what is known of its own command; no other event changes it."""
    violations = []

    def rule(name: str, detail: str) -> None:
        violations.append(Violation(name, after.job_id, detail))

    reply = event if isinstance(event, Reply) else None
    place = -1 if reply is None else before.plan.index(reply.step)
    if reply is not None and reply.run != before.run:
        if decision.changed:
            rule("a reply belongs to its run", f"one of run {reply.run} changed run {before.run}")
        return violations
    for at, (planned, old, new) in enumerate(zip(after.plan.steps, before.steps, after.steps, strict=True)):
        lost = [seq for seq in old.unanswered if seq not in new.unanswered]
        if lost and (reply is None or at != place or lost != [reply.seq]):
            rule("an unanswered attempt is not forgotten", f"{planned.name}: {lost}")
        if old.status is StepStatus.REUSED and new != old:
            rule("a reused result stays as it is", planned.name)
        if old.undo is Undo.NEEDED and new.undo is Undo.DONE and not _undoes(reply, planned.name, old):
            rule("an undo is done when a late enough one says so", f"{planned.name} by {event}")
    flight = before.steps[place].in_flight if place >= 0 and before.phase is Phase.RUNNING else None
    if flight is not None and flight.action is Action.EXECUTE:
        if isinstance(reply, Succeeded) and after.steps[place].status is not StepStatus.SUCCEEDED:
            rule("a success of any attempt settles the step", reply.step)
        stands = (after.phase, after.steps[place].in_flight) == (before.phase, flight)
        if isinstance(reply, Failed) and reply.seq != flight.command_seq and not stands:
            rule("a superseded attempt's failure changes nothing", f"{reply.seq}, current {flight.command_seq}")
    for planned, old, new in zip(after.plan.steps, before.steps, after.steps, strict=True):
        again = new.in_flight
        if decision.note is Note.RETRYING and again is not None and again.command_seq == after.seq:
            attempt = 0 if old.in_flight is None else old.in_flight.attempt
            if again.attempt != attempt + 1:
                rule("attempts are counted", f"{planned.name}: {attempt} to {again.attempt}")
    return violations


def _acts(saga: Saga, action: Action) -> bool:
    """True if this action is in flight at some step."""
    return any(step.in_flight is not None and step.in_flight.action is action for step in saga.steps)


def _undoes(reply: Reply | None, name: str, step: StepState) -> bool:
    return isinstance(reply, Compensated) and reply.step == name and reply.seq > step.evidence


def _may_be_done(old: StepState, new: StepState) -> bool:
    """True if the step was commanded, and an attempt of it has an unknown outcome or none yet."""
    return (
        old.status is not StepStatus.PENDING
        and old.status is not StepStatus.REUSED
        and (new.outcome_unknown or bool(new.unanswered))
    )


def _check_new_run(before: Saga, after: Saga, event: Event) -> list[Violation]:
    violations = []

    def rule(name: str, detail: str) -> None:
        violations.append(Violation(name, after.job_id, detail))

    if before.phase not in ENDED:
        rule("duplicates never start a second run", f"while the first is {before.phase}")
    if not isinstance(event, Submitted | Redriven):
        rule("duplicates never start a second run", f"{type(event).__name__} started one")
    if isinstance(event, Submitted) and event.origin in before.origins:
        rule("duplicates never start a second run", f"{event.origin} was accepted before")
    if any(step.unanswered for step in before.steps):
        rule("no new run beside unanswered commands", f"run {before.run} has some")
    for planned, step in zip(after.plan.steps, after.steps, strict=True):
        if step.status is not StepStatus.REUSED:
            continue
        old = before.plan.index(planned.name)
        source = before.steps[old] if old >= 0 else None
        if (
            source is None
            or source.undo is not Undo.NONE
            or source.status not in (StepStatus.SUCCEEDED, StepStatus.REUSED)
        ):
            rule("only standing results are reused", planned.name)
    return violations


def check_command(before: Saga | None, after: Saga, command: Command) -> list[Violation]:
    """Return the violations in a command that the state `after` issued."""
    if not isinstance(command, StepCommand):
        return []
    violations = []

    def rule(name: str, detail: str) -> None:
        violations.append(Violation(name, after.job_id, detail))

    place = after.plan.index(command.step)
    if command.seq != after.seq or command.run != after.run:
        rule("a command carries its state's number", f"{command.run}/{command.seq}, {after.run}/{after.seq}")
    if command.key != idempotency_key(after.job_id, after.run, command.step):
        rule("one key for all attempts", command.key)
    if command.action is Action.EXECUTE:
        if after.phase is not Phase.RUNNING:
            rule("no Execute after an abort", f"{command.step} in {after.phase}")
        for planned, step in zip(after.plan.steps[:place], after.steps[:place], strict=True):
            if step.status not in (StepStatus.SUCCEEDED, StepStatus.REUSED):
                rule(
                    "an Execute only after all before it succeeded", f"{command.step}: {planned.name} is {step.status}"
                )
    elif command.action is Action.COMPENSATE:
        step = after.steps[place]
        if step.status is StepStatus.PENDING and not after.withdraws:
            rule("Compensate only what was commanded", command.step)
        if step.status is StepStatus.REUSED:
            rule("Compensate only what was commanded", f"{command.step} belongs to an earlier run")
        # A compensation in flight is finished first, also if a late effect of a later step was reported meanwhile.
        flight = None if before is None else before.steps[place].in_flight
        goes_on = flight is not None and flight.action is Action.COMPENSATE
        for planned, later in zip(after.plan.steps[place + 1 :], after.steps[place + 1 :], strict=True):
            if later.undo is Undo.NEEDED and not goes_on:
                rule("Compensate in reverse", f"{command.step} before {planned.name}")
    else:
        for planned, step in zip(after.plan.steps, after.steps, strict=True):
            if step.status not in (StepStatus.SUCCEEDED, StepStatus.REUSED):
                rule("confirm last", f"{command.step} while {planned.name} is {step.status}")
    return violations


# --- a saga at rest, seen from outside --------------------------------------------------------------------------------


class Effect(NamedTuple):
    """The effects of one step in one run: how often the effect exists, and how often it was paid."""

    standing: int
    paid: int = 0


def check_rest(saga: Saga, effects: Mapping[str, Effect], excused: Iterable[str] = ()) -> list[Violation]:
    """Return the effects that the phase of the saga does not allow, when all commands are answered and none is in flight.

    `effects` holds what stands for each step of the present run by name; `excused` are steps for which a person has
    taken over: skipped with a reason, or reported as a late effect in the dead-letter topic.
    """
    violations = []
    passed_over = set(excused)
    for planned, step in zip(saga.plan.steps, saga.steps, strict=True):
        effect = effects.get(planned.name)
        if effect is None:
            continue
        if effect.paid > 1:
            violations.append(
                Violation("paid at most once per key", saga.job_id, f"{planned.name}: {effect.paid} times")
            )
        if planned.name in passed_over or step.status is StepStatus.REUSED or step.undo is Undo.SKIPPED:
            continue
        if saga.phase is Phase.COMPLETED and effect.standing != 1:
            detail = f"{planned.name} has {effect.standing}"
            violations.append(Violation("completed means every effect once", saga.job_id, detail))
        if saga.phase is Phase.COMPENSATED and planned.undoable and effect.standing:
            violations.append(Violation("compensated means no effect left", saga.job_id, f"{planned.name} has one"))
    return violations


_NO_POISON: Mapping[int, str] = MappingProxyType({})


# --- a whole log -----------------------------------------------------------------------------------------------------


def check_log(
    records: Iterable[EventRecord],
    states: Mapping[int, Saga],
    commands: Mapping[int, StepCommand],
    job_id: str,
    poison: Mapping[int, str] = _NO_POISON,
) -> list[Violation]:
    """Return where the states and commands of one job differ from the fold of its inbox.

    `states` and `commands` are by seq: two that differ under one seq can't both be the fold's. `poison` says with which
    error the records at some offsets could not be decided when they were met (their dead letters tell).
    """
    violations = []
    saga: Saga | None = None
    met: set[tuple[int, int]] = set()
    for record in records:
        if record.offset in poison:
            if saga is not None and record.offset > saga.offset:
                saga = poisoned(saga, record.offset, poison[record.offset], record.timestamp_ms)
            continue
        decision = advance(saga, record.offset, record.event, record.timestamp_ms)
        if isinstance(record.event, Submitted):
            place = record.event.origin.partition, record.event.origin.offset
            if decision.note is Note.STARTED and place in met:
                violations.append(Violation("a submission is decided once", job_id, f"{place} started a run later"))
            met.add(place)
        saga = decision.saga
        if not decision.changed or saga is None:
            continue
        if saga.seq in states and states[saga.seq] != saga:
            violations.append(
                Violation("state is the fold of its events", job_id, f"seq {saga.seq} was saved otherwise")
            )
        for command in decision.commands:
            if isinstance(command, StepCommand) and commands.get(command.seq, command) != command:
                violations.append(Violation("same seq, same command", job_id, f"seq {command.seq} was sent otherwise"))
    return violations
