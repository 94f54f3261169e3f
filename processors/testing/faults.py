"""What can be made to go wrong in `run_pipeline`, and a list of everything that a pipeline has to survive.

@pytest.mark.parametrize("faults", every_fault(PIPELINE), ids=str)
def test_a_failed_job_leaves_nothing(faults):
    story = asyncio.run(run_pipeline(PIPELINE, URL, faults=faults, ...))
    assert story.phase is Phase.COMPLETED or not story.standing, str(story)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from processors.errors import PipelineError, RetryLater, StepFailed
from processors.saga.plan import Plan
from processors.saga.state import Action
from processors.testing.plans import plan_of


class FaultKind(StrEnum):
    """What an attempt of a step meets."""

    #: The step's code doesn't run: StepFailed.
    FAILS = "fails"
    #: The step's code doesn't run: RetryLater.
    RETRIES = "fails for now"
    #: The attempt runs out of time before it did anything; the engine can't know that.
    TIMES_OUT = "times out"
    #: The attempt does its work, and runs out of time before it can say so.
    TIMES_OUT_AFTER_EFFECT = "times out after its effect"
    #: The attempt does its work, and then raises an exception that says nothing: a lost connection, for example.
    CRASHES_AFTER_EFFECT = "crashes after its effect"
    #: The command is delivered twice, as after a crash of its worker: the step's code runs twice under the same key.
    REPEATED = "runs twice"
    #: A worker stands still with the command until the job has been given up, or done without it; then it does the work.
    LATE = "works late"
    #: An operator cancels the job while the attempt does its work.
    CANCELLED = "is cancelled meanwhile"


#: What is raised in the place of the step's code.
_INSTEAD: Mapping[FaultKind, Exception] = {
    FaultKind.FAILS: StepFailed("it fails (a fault of the test)"),
    FaultKind.RETRIES: RetryLater("it fails for now (a fault of the test)"),
    FaultKind.TIMES_OUT: TimeoutError(),
}
#: What is raised behind it.
_AFTERWARDS: Mapping[FaultKind, Exception] = {
    FaultKind.TIMES_OUT_AFTER_EFFECT: TimeoutError(),
    FaultKind.CRASHES_AFTER_EFFECT: ConnectionError("the connection was lost (a fault of the test)"),
}


_ACTS = {
    Action.EXECUTE: "{}",
    Action.COMPENSATE: "the compensation of {}",
    Action.CONFIRM: "the confirmation of {}",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one step: of its first `attempts` attempts at an action, or of every one."""

    step: str
    kind: FaultKind
    action: Action = Action.EXECUTE
    attempts: int | None = None

    def __str__(self) -> str:
        what = _ACTS[self.action].format(self.step)
        often = "" if self.attempts is None else f" {self.attempts}x"
        return f"{what} {self.kind}{often}"

    @property
    def instead(self) -> Exception | None:
        """What the attempt comes to without the step's code."""
        return _INSTEAD.get(self.kind)

    @property
    def afterwards(self) -> Exception | None:
        """What the attempt comes to after the step's code."""
        return _AFTERWARDS.get(self.kind)


class Faults(tuple[Fault, ...]):
    """Faults that one run of a pipeline meets; `str` names them, for pytest's ids."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self)) or "no fault"


#: An attempt at a compensation or a confirmation may meet these once, and is made again.
_MADE_AGAIN = (
    FaultKind.RETRIES,
    FaultKind.TIMES_OUT,
    FaultKind.TIMES_OUT_AFTER_EFFECT,
    FaultKind.CRASHES_AFTER_EFFECT,
    FaultKind.REPEATED,
)


def every_fault(pipeline: Plan | Mapping[str, Any] | str | Path) -> list[Faults]:
    """Return what a pipeline has to survive: no fault, each fault of each step, of each compensation and confirmation.

    After any of them the job has completed, or nothing stands.
    """
    plan = plan_of(pipeline)
    cases = [Faults()]
    for planned in plan.steps:
        cases += [Faults((Fault(planned.name, kind),)) for kind in FaultKind]
    for planned in plan.steps:
        if planned.undoable:
            cause = Fault(planned.name, FaultKind.TIMES_OUT_AFTER_EFFECT)
            cases += [Faults((cause, Fault(planned.name, kind, Action.COMPENSATE, attempts=1))) for kind in _MADE_AGAIN]
        if planned.confirms:
            cases += [Faults((Fault(planned.name, kind, Action.CONFIRM, attempts=1),)) for kind in _MADE_AGAIN]
    return cases


def check_faults(plan: Plan, faults: Faults) -> None:
    """Refuse faults that could never happen. Raises PipelineError."""
    for fault in faults:
        place = plan.index(fault.step)
        if place < 0:
            raise PipelineError(
                f"{fault}: pipeline {plan.pipeline} has no step {fault.step!r}; it has "
                f"{', '.join(step.name for step in plan.steps)}"
            )
        planned = plan.steps[place]
        if fault.action is Action.COMPENSATE and not planned.undoable:
            raise PipelineError(f"{fault}: step {fault.step} has no compensation")
        if fault.action is Action.CONFIRM and not planned.confirms:
            raise PipelineError(f"{fault}: step {fault.step} is never confirmed in pipeline {plan.pipeline}")
