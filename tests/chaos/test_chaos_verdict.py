"""The verdict of chaos runs: clean when all is well, and each broken promise is found by its own check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processors.saga.invariants import LogPosition
from tests.chaos.verdict import Seen, conservation, judge


def invoice(job: str, step: str, *, run: int = 1, status: str = "charged", times: int = 1) -> dict[str, Any]:
    return {"key": f"{job}:{run}:{step}", "status": status, "charged_times": times}


POISON = LogPosition("x.urls", 0, 3)
COMPLETED, COMPENSATED = {"phase": "COMPLETED", "run": 1}, {"phase": "COMPENSATED", "run": 1}
CLEAN = Seen(
    accepted={"a": "completed", "b": "compensated", "c": "completed"},
    states={"a": COMPLETED, "b": COMPENSATED, "c": COMPENSATED},
    warehouse=frozenset({"a"}),
    records=frozenset({"a"}),
    pages=frozenset({"a:1:fetch"}),
    invoices=(invoice("a", "enrich"), invoice("b", "enrich", status="cancelled")),
    paid_steps=("enrich",),
    letters={POISON: "no URL", LogPosition("x.events", 1, 7): "Cancelled makes no sense while job c is COMPENSATED"},
    poison=frozenset({POISON}),
    cancelled=frozenset({"c"}),
    lags={"intake": 0},
    divergences=(),
)


def too_late(job: str) -> str:
    """What the rules say to a cancellation of a job whose steps have all succeeded."""
    return f"job {job} has done all its steps; it can't be cancelled any more"


def broken(seen: Seen) -> list[str]:
    return [check.promise for check in judge(seen) if check.broken]


def test_a_run_that_kept_its_promises_is_clean() -> None:
    """Served jobs may be compensated when a fault outlasted them; refused cancels and poison are set aside."""
    assert broken(CLEAN) == []
    assert conservation(CLEAN) == "3 accepted = 2 compensated + 1 completed"


def test_a_cancellation_that_came_too_late_is_no_fault() -> None:
    """A job whose steps have all succeeded goes on to its end, and says so to whoever cancels it."""
    late = {**CLEAN.letters, LogPosition("x.events", 2, 5): too_late("c")}
    assert broken(replace(CLEAN, letters=late)) == []


@pytest.mark.parametrize(
    ("damage", "promise"),
    [
        ({"states": {"a": COMPLETED, "b": COMPENSATED}}, "nothing lost"),
        ({"states": {**CLEAN.states, "c": {"phase": "PARKED", "run": 1}}}, "nothing lost"),
        ({"states": {**CLEAN.states, "c": {"phase": "RUNNING", "run": 1}}}, "nothing lost"),
        ({"states": {**CLEAN.states, "d": COMPENSATED}}, "nothing invented"),
        ({"warehouse": frozenset()}, "nothing half-written: users"),
        ({"warehouse": frozenset({"a", "b"})}, "nothing half-written: users"),
        ({"records": frozenset({"a", "b"})}, "nothing half-written: the compacted"),
        ({"pages": frozenset()}, "nothing half-written: pages"),
        ({"pages": frozenset({"a:1:fetch", "b:1:fetch"})}, "nothing half-written: pages"),
        ({"invoices": (invoice("a", "enrich", times=2),)}, "nothing paid twice"),
        ({"invoices": (invoice("a", "enrich"), invoice("a", "enrich", run=2))}, "nothing paid twice"),
        ({"invoices": (*CLEAN.invoices, invoice("b", "enrich"))}, "nothing paid for"),
        ({"invoices": ()}, "nothing paid for"),
        ({"accepted": {**CLEAN.accepted, "a": "compensated"}}, "no job completed that had to fail"),
        ({"letters": {}}, "every poison record"),
        ({"letters": {**CLEAN.letters, LogPosition("x.events", 0, 9): "late effect"}}, "nothing else is set aside"),
        ({"letters": {**CLEAN.letters, LogPosition("x.events", 0, 9): too_late("b")}}, "nothing else is set aside"),
        ({"lags": {"intake": 2}}, "no lag remains"),
        ({"lags": {"intake": -1}}, "no lag remains"),
        ({"divergences": ("state seq 4 of job a",)}, "every state and command"),
    ],
)
def test_each_broken_promise_is_found(damage: dict[str, Any], promise: str) -> None:
    """Checks that could not fail would prove nothing: each kind of damage fails its own."""
    assert any(one.startswith(promise) for one in broken(replace(CLEAN, **damage)))
