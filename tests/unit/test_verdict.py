"""The demo's verdict: clean when outside and phases agree, and each kind of damage is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processors.demo.kills import check_targets
from processors.demo.observations import dead_letters
from processors.demo.verdict import Observed, judge
from processors.kafka.record import Record
from processors.local.errors import LocalError
from processors.saga.invariants import LogPosition


def invoice(job: str, step: str, *, status: str = "charged", times: int = 1) -> dict[str, object]:
    return {"key": f"{job}:1:{step}", "status": status, "charged_times": times}


CLEAN = Observed(
    expected={"a": "completed", "b": "compensated"},
    phases={"a": "COMPLETED", "b": "COMPENSATED"},
    rejected=0,
    set_aside=0,
    warehouse=frozenset({"a"}),
    records=frozenset({"a"}),
    invoices=(invoice("a", "enrich"), invoice("b", "enrich", status="cancelled")),
)


def test_a_run_that_kept_its_promises_has_no_problems() -> None:
    """What is outside is what the phases claim: no problem, and the counts say so."""
    verdict = judge(CLEAN)
    assert verdict.problems == ()
    assert (verdict.accepted, verdict.completed, verdict.compensated, verdict.paid_calls) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"warehouse": frozenset()}, "1 half-written"),
        ({"warehouse": frozenset({"a", "b"})}, "1 half-written"),
        ({"records": frozenset({"a", "b"})}, "1 half-written"),
        ({"invoices": (invoice("a", "enrich", times=2),)}, "1 calls paid twice"),
        ({"invoices": (invoice("b", "enrich"),)}, "1 calls of compensated jobs"),
        ({"phases": {"b": "COMPENSATED"}, "warehouse": frozenset(), "records": frozenset()}, "1 jobs unaccounted for"),
        ({"phases": {"a": "COMPLETED", "b": "RUNNING"}}, "1 jobs still running"),
        ({"phases": {"a": "COMPLETED", "b": "PARKED"}}, "1 jobs parked"),
        ({"set_aside": 1}, "1 records set aside"),
        ({"expected": {"a": "completed", "b": "completed"}}, "1 jobs with an unexpected end"),
    ],
)
def test_each_kind_of_damage_is_named(damage: dict[str, Any], told: str) -> None:
    """A verdict that could not fail would prove nothing."""
    problems = judge(replace(CLEAN, **damage)).problems
    assert any(problem.startswith(told) for problem in problems), problems


class Letters:
    """A dead-letter topic."""

    def __init__(self, *records: Record) -> None:
        self._records = records

    def records(self, _topic: str) -> tuple[Record, ...]:
        return self._records


def letter(offset: int, source: int) -> Record:
    about = {"topic": "x.urls", "partition": "0", "offset": str(source), "reason": "no URL"}
    headers = tuple((f"dead-letter-{name}", value.encode()) for name, value in about.items())
    return Record("x.dead-letters", 0, offset, 1, None, b"?", headers)


def test_dead_letters_are_counted_by_where_the_record_lay() -> None:
    """Records without a key stay apart, and one that was set aside again after a kill counts once."""
    letters = Letters(letter(0, 5), letter(1, 6), letter(2, 5))
    assert dead_letters(letters, "x.dead-letters") == {  # type: ignore[arg-type]  # it reads records only
        LogPosition("x.urls", 0, 5): "no URL",
        LogPosition("x.urls", 0, 6): "no URL",
    }


def test_what_cannot_be_killed_is_told_before_anything_starts() -> None:
    """A mistyped name is answered with the names that there are."""
    check_targets(["fetch", "broker", "clickhouse"], ["fetch"])
    with pytest.raises(LocalError, match="named 'fetsch': choose from fetch, broker, clickhouse"):
        check_targets(["fetsch"], ["fetch"])
