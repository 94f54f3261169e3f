"""Small plans, and one saga driven event by event as the coordinator would: for the tests of the protocol.

job = Driven(plan("ab"))
job.submit()
job.succeed("a")           # answers the command that is under way
job.fail("b", retryable=True)
job.ring()                 # the timer of the present state, at its time
assert job.phase is Phase.RUNNING
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from processors.saga.commands import Note, Reject, StepCommand
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
from processors.saga.moves import first_due
from processors.saga.plan import Plan, Resubmit, RetryPolicy, StepPlan, pin
from processors.saga.protocol import Decision, advance
from processors.saga.state import Action, InFlight, Origin, Phase, Saga, StepState

START_MS = 1_700_000_000_000
RUN = START_MS // 1000
DEADLINE_MS = 3_600_000
RETENTION_MS = 86_400_000


def step(name: str, **changes: Any) -> StepPlan:
    """A step of one second, two attempts and three for its undo, whose retries come at once."""
    planned = StepPlan(
        name=name,
        use=f"tests:{name}",
        params="{}",
        undoable=True,
        confirms=False,
        timeout_ms=1_000,
        queue_timeout_ms=0,
        retry=RetryPolicy(attempts=2, base_ms=0, cap_ms=0, total_ms=600_000),
        undo_timeout_ms=1_000,
        undo_retry=RetryPolicy(attempts=3, base_ms=0, cap_ms=0, total_ms=6_000_000),
    )
    return msgspec.structs.replace(planned, **changes)


def plan(steps: str | Iterable[StepPlan] = "ab", **changes: Any) -> Plan:
    """A plan of the named steps (one letter each), or of the given ones."""
    planned = tuple(step(name) for name in steps) if isinstance(steps, str) else tuple(steps)
    made = Plan(
        pipeline="letters",
        record_schema="{}",
        steps=planned,
        deadline_ms=DEADLINE_MS,
        retention_ms=RETENTION_MS,
    )
    return pin(msgspec.structs.replace(made, **changes))


@dataclass
class Driven:
    """One job, its inbox and the clock of its broker."""

    plan: Plan
    saga: Saga | None = None
    now: int = START_MS
    offset: int = 0
    decisions: list[Decision] = field(default_factory=list)
    inbox: list[tuple[int, Event, int]] = field(default_factory=list)

    # --- what was decided ---------------------------------------------------------------------------------------

    @property
    def state(self) -> Saga:
        """The saga, which there must be."""
        assert self.saga is not None
        return self.saga

    @property
    def phase(self) -> Phase:
        """The saga's phase; NEW if there is none."""
        return Phase.NEW if self.saga is None else self.saga.phase

    @property
    def note(self) -> Note:
        """What the last decision did."""
        return self.decisions[-1].note

    @property
    def command(self) -> StepCommand | None:
        """The step command that the last decision asked for."""
        found = [one for one in self.decisions[-1].commands if isinstance(one, StepCommand)]
        return found[0] if found else None

    @property
    def asked(self) -> tuple[str, str]:
        """Action and step of the last decision's command; two empty strings if there is none."""
        return (self.command.action.value, self.command.step) if self.command else ("", "")

    @property
    def refusal(self) -> str:
        """The reason that the last decision gave for a dead letter, or an empty string."""
        return next((one.reason for one in self.decisions[-1].commands if isinstance(one, Reject)), "")

    @property
    def flight(self) -> InFlight:
        """What is under way, at the step whose timer is due first."""
        return first_due(self.state)[1]

    def of(self, name: str) -> StepState:
        """The state of a step by name."""
        return self.state.steps[self.state.plan.index(name)]

    # --- events ---------------------------------------------------------------------------------------------------

    def on(self, event: Event, after_ms: int = 1) -> Decision:
        """Let the event be the next record of the inbox."""
        self.now += after_ms
        self.offset += 1
        self.inbox.append((self.offset, event, self.now))
        decision = advance(self.saga, self.offset, event, self.now)
        self.decisions.append(decision)
        self.saga = decision.saga
        return decision

    def submit(
        self, content_hash: str = "c1", offset: int = 1, plan: Plan | None = None, partition: int = 0
    ) -> Decision:
        """Intake accepts a request for this job."""
        wanted = plan or self.plan
        origin = Origin(partition, offset)
        return self.on(Submitted("j", wanted, "http://x/", b'{"n":1}', content_hash, origin, "batch", "trace"))

    def succeed(
        self, name: str, seq: int | None = None, output: bytes = b'{"data":{}}', run: int | None = None
    ) -> Decision:
        """An Execute worked; by default the one under way."""
        return self.on(Succeeded("j", self._run(run), name, self._seq(seq), output))

    def fail(self, name: str, seq: int | None = None, run: int | None = None, **how: Any) -> Decision:
        """An Execute did not work."""
        return self.on(Failed("j", self._run(run), name, self._seq(seq), how.pop("reason", "no"), **how))

    def compensated(self, name: str, seq: int | None = None, run: int | None = None) -> Decision:
        """A Compensate worked."""
        return self.on(Compensated("j", self._run(run), name, self._seq(seq)))

    def compensation_failed(self, name: str, seq: int | None = None, **how: Any) -> Decision:
        """A Compensate did not work."""
        return self.on(CompensationFailed("j", self._run(None), name, self._seq(seq), how.pop("reason", "no"), **how))

    def confirmed(self, name: str, seq: int | None = None) -> Decision:
        """A Confirm worked."""
        return self.on(Confirmed("j", self._run(None), name, self._seq(seq)))

    def confirm_failed(self, name: str, seq: int | None = None, **how: Any) -> Decision:
        """A Confirm did not work."""
        return self.on(ConfirmFailed("j", self._run(None), name, self._seq(seq), how.pop("reason", "no"), **how))

    def fire(self, seq: int | None = None) -> Decision:
        """The timer of the present state (or of another) rings when the present state's is due."""
        wait = max(1, self.state.due_ms - self.now) if self.saga and self.saga.due_ms else 1
        return self.on(TimedOut("j", self.state.seq if seq is None else seq), after_ms=wait)

    def cancel(self) -> Decision:
        """An operator cancels."""
        return self.on(Cancelled("j", "ann", "wrong list"))

    def resume(self, mode: ResumeMode = ResumeMode.RETRY, reason: str = "") -> Decision:
        """An operator resumes."""
        return self.on(Resumed("j", mode, "ann", reason))

    def redrive(self, from_step: str, plan: Plan | None = None) -> Decision:
        """An operator asks for a new run."""
        return self.on(Redriven("j", from_step, plan or self.plan, "ann", "new selectors"))

    def _run(self, run: int | None) -> int:
        if run is not None:
            return run
        return RUN if self.saga is None else self.saga.run

    def _seq(self, seq: int | None) -> int:
        if seq is not None:
            return seq
        if self.saga is None:
            return 2
        return self.flight.command_seq if self.saga.in_flight else 0


# --- sagas in each phase ----------------------------------------------------------------------------------------------


def new(**changes: Any) -> Driven:
    """No state: never submitted, or forgotten."""
    return Driven(plan(**changes))


def running(**changes: Any) -> Driven:
    """Step a is commanded."""
    job = new(**changes)
    job.submit()
    return job


def compensating(**changes: Any) -> Driven:
    """a succeeded, b ended with an unknown outcome: b is being compensated."""
    job = running(**changes)
    job.succeed("a")
    job.fail("b", outcome_unknown=True)
    assert job.asked == ("COMPENSATE", "b")
    return job


def parked(**changes: Any) -> Driven:
    """The compensation of b was given up."""
    job = compensating(**changes)
    job.compensation_failed("b", retryable=False)
    assert job.phase is Phase.PARKED
    return job


def completed(**changes: Any) -> Driven:
    """All steps succeeded."""
    job = running(**changes)
    for planned in job.plan.steps:
        job.succeed(planned.name)
    assert job.phase is Phase.COMPLETED
    return job


def compensated(**changes: Any) -> Driven:
    """b failed, a was undone."""
    job = running(**changes)
    job.succeed("a")
    job.fail("b")
    job.compensated("a")
    assert job.phase is Phase.COMPENSATED
    return job


def confirming(**changes: Any) -> Driven:
    """All steps succeeded; a is being confirmed."""
    job = running(steps=(step("a", confirms=True), step("b")), **changes)
    job.succeed("a")
    job.succeed("b")
    assert job.flight.action is Action.CONFIRM
    return job


ALWAYS = {"resubmit": Resubmit.ALWAYS}
