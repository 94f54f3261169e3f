"""Whole sagas on a real Kafka: each step fails, hangs or is cancelled, before its effect and after; judged from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from processors.demo.demo import STEPS
from tests.broker.saga_rig import PATIENT, Rig, hasty

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

CANCELLED = "cancelled by the test"


@dataclass(frozen=True, slots=True)
class Case:
    """A job whose step misbehaves, how, and why it is undone in the end."""

    step: str
    how: str
    reason: str
    hasty: bool = False
    cancelled: bool = False

    @property
    def job(self) -> str:
        """The job's id."""
        return f"{self.step}-{self.how}{'-cancelled' if self.cancelled else ''}"


CASES = tuple(
    case
    for step in STEPS
    for case in (
        Case(step, "fail", "told to fail"),
        Case(step, "fail-after", "told to fail, too late"),
        Case(step, "raise-after", "unexpected error: ValueError('told to raise')"),
        Case(step, "hang", "ran out of time", hasty=True),
        Case(step, "hang-after", "ran out of time", hasty=True),
        Case(step, "hang", CANCELLED, cancelled=True),
        Case(step, "hang-after", CANCELLED, cancelled=True),
    )
)
WELL = tuple(f"well-{number}" for number in range(6))


@pytest.fixture(scope="module")
def states(rig: Rig) -> Iterator[dict[str, dict[str, Any]]]:
    """All cases at once, among jobs that are well, so that each waits for its own time only."""
    rig.submit({job: {} for job in WELL})
    for case in CASES:
        rig.submit({case.job: {case.step: case.how}}, hasty(case.step) if case.hasty else PATIENT)
    waiting = {case.job: case for case in CASES if case.cancelled}
    while waiting:
        found = rig.until(lambda now: any(_is_at(now.get(job), case.step) for job, case in waiting.items()), "a step")
        for job, case in [*waiting.items()]:
            if _is_at(found.get(job), case.step):
                rig.cancel(job, CANCELLED)
                del waiting[job]
    yield rig.ended([*WELL, *(case.job for case in CASES)])


def _is_at(state: dict[str, Any] | None, step: str) -> bool:
    flight = state["steps"][STEPS.index(step)]["in_flight"] if state is not None else None
    return flight is not None and flight["action"] == "EXECUTE"


def test_a_job_that_is_well_leaves_its_record_everywhere(rig: Rig, states: dict[str, dict[str, Any]]) -> None:
    """Jobs among all the failing ones complete: page, row, record and two invoices each."""
    assert {states[job]["phase"] for job in WELL} == {"COMPLETED"}
    rig.check(WELL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.job)
def test_a_step_that_goes_wrong_leaves_nothing(rig: Rig, states: dict[str, dict[str, Any]], case: Case) -> None:
    """The saga is compensated, says at which step and why, and outside there is no page, row, record or charge."""
    state = states[case.job]
    assert (state["phase"], state["failed_step"]) == ("COMPENSATED", case.step)
    assert case.reason in state["reason"]


def test_nothing_of_what_went_wrong_is_left_outside(rig: Rig, states: dict[str, dict[str, Any]]) -> None:
    """All those jobs together: what the API charged, ClickHouse shows and the topics hold is that of the others."""
    rig.check([case.job for case in CASES])
