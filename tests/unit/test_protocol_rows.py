"""One example for each row of the protocol, the ignored ones too: what the event does in that phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from processors.errors import ProtocolViolation
from processors.saga import protocol
from processors.saga.commands import Note
from processors.saga.events import EVENTS, ResumeMode
from processors.saga.protocol import PROTOCOL, ProtocolRow, decide
from processors.saga.state import Phase
from tests.sagas import (
    ALWAYS,
    Driven,
    compensated,
    compensating,
    completed,
    confirming,
    new,
    parked,
    running,
)

N, R, G = Phase.NEW, Phase.RUNNING, Phase.COMPENSATING
P, C, U = Phase.PARKED, Phase.COMPLETED, Phase.COMPENSATED
SKIP = ResumeMode.SKIP


class Example(NamedTuple):
    """An event in a phase, and what comes of it."""

    behaviour: str
    given: Callable[[], Driven]
    event: Callable[[Driven], object]
    phase: Phase
    note: Note
    asked: str = " "
    refused: str = ""


EXAMPLES = [
    # --- no state
    Example("starts the first step", new, lambda j: j.submit(), R, Note.STARTED, "EXECUTE a"),
    Example("is kept visible: an effect", new, lambda j: j.succeed("a"), N, Note.ORPHANED, refused="isn't known"),
    Example("without effect is nothing", new, lambda j: j.fail("a"), N, Note.STALE),
    Example("is nothing: the saga is gone", new, lambda j: j.fire(5), N, Note.STALE),
    Example("is nothing", new, lambda j: j.compensated("a"), N, Note.STALE),
    Example(
        "is kept visible: not undone", new, lambda j: j.compensation_failed("a"), N, Note.ORPHANED, refused="known"
    ),
    Example("is nothing", new, lambda j: j.confirmed("a"), N, Note.STALE),
    Example("is nothing", new, lambda j: j.confirm_failed("a"), N, Note.STALE),
    Example("is refused: there is no such job", new, lambda j: j.cancel(), N, Note.ORPHANED, refused="isn't known"),
    Example("is refused: there is no such job", new, lambda j: j.resume(), N, Note.ORPHANED, refused="isn't known"),
    Example("is refused: there is no such job", new, lambda j: j.redrive("a"), N, Note.ORPHANED, refused="isn't known"),
    # --- running
    Example("again is a duplicate", running, lambda j: j.submit(offset=2), R, Note.DUPLICATE),
    Example("commands the next step", running, lambda j: j.succeed("a"), R, Note.ADVANCED, "EXECUTE b"),
    Example("tries again", running, lambda j: j.fail("a", retryable=True), R, Note.RETRYING, "EXECUTE a"),
    Example("tries again", running, lambda j: j.fire(), R, Note.RETRYING, "EXECUTE a"),
    Example("is ignored: nothing is being undone", running, lambda j: j.compensated("a"), R, Note.IGNORED),
    Example("is ignored: nothing is being undone", running, lambda j: j.compensation_failed("a"), R, Note.IGNORED),
    Example("completes", confirming, lambda j: j.confirmed("a"), C, Note.COMPLETED),
    Example("confirms again", confirming, lambda j: j.confirm_failed("a"), R, Note.RETRYING, "CONFIRM a"),
    Example("undoes what may have happened", running, lambda j: j.cancel(), G, Note.ABORTED, "COMPENSATE a"),
    Example("is refused", running, lambda j: j.resume(), R, Note.REFUSED, refused="makes no sense"),
    Example("is refused", running, lambda j: j.redrive("a"), R, Note.REFUSED, refused="makes no sense"),
    # --- compensating
    Example("again is a duplicate", compensating, lambda j: j.submit(offset=2), G, Note.DUPLICATE),
    Example("is noted for another undo", compensating, lambda j: j.succeed("b", j.state.seq - 1), G, Note.LATE_EFFECT),
    Example("of a clear kind is noted", compensating, lambda j: j.fail("b", j.state.seq - 1), G, Note.IGNORED),
    Example("undoes again", compensating, lambda j: j.fire(), G, Note.RETRYING, "COMPENSATE b"),
    Example(
        "undoes the step before it",
        compensating,
        lambda j: j.compensated("b"),
        G,
        Note.STEP_COMPENSATED,
        "COMPENSATE a",
    ),
    Example("undoes again", compensating, lambda j: j.compensation_failed("b"), G, Note.RETRYING, "COMPENSATE b"),
    Example("is ignored", compensating, lambda j: j.confirmed("b"), G, Note.IGNORED),
    Example("is ignored", compensating, lambda j: j.confirm_failed("b"), G, Note.IGNORED),
    Example("is ignored: it is being done", compensating, lambda j: j.cancel(), G, Note.IGNORED),
    Example("is refused", compensating, lambda j: j.resume(), G, Note.REFUSED, refused="makes no sense"),
    Example("is refused", compensating, lambda j: j.redrive("a"), G, Note.REFUSED, refused="makes no sense"),
    # --- parked
    Example("again is a duplicate", parked, lambda j: j.submit(offset=2), P, Note.DUPLICATE),
    Example("is noted for another undo", parked, lambda j: j.succeed("b", 4), P, Note.LATE_EFFECT),
    Example("is ignored", parked, lambda j: j.fail("b", 4), P, Note.IGNORED),
    Example("is ignored: no timer runs", parked, lambda j: j.fire(), P, Note.IGNORED),
    Example("goes on undoing", parked, lambda j: j.compensated("b"), G, Note.STEP_COMPENSATED, "COMPENSATE a"),
    Example("is ignored: it is known", parked, lambda j: j.compensation_failed("b"), P, Note.IGNORED),
    Example("is ignored", parked, lambda j: j.confirmed("b"), P, Note.IGNORED),
    Example("is ignored", parked, lambda j: j.confirm_failed("b"), P, Note.IGNORED),
    Example("is refused", parked, lambda j: j.cancel(), P, Note.REFUSED, refused="resume it instead"),
    Example("undoes again", parked, lambda j: j.resume(), G, Note.RESUMED, "COMPENSATE b"),
    Example("is refused", parked, lambda j: j.redrive("a"), P, Note.REFUSED, refused="makes no sense"),
    # --- completed
    Example("again is a duplicate", completed, lambda j: j.submit(offset=2), C, Note.DUPLICATE),
    Example("again is nothing new", completed, lambda j: j.succeed("b", j.state.seq - 1), C, Note.IGNORED),
    Example("is nothing any more", completed, lambda j: j.fail("b", j.state.seq - 1), C, Note.IGNORED),
    Example("forgets the saga", completed, lambda j: j.fire(), N, Note.FORGOTTEN),
    Example("is ignored", completed, lambda j: j.compensated("b"), C, Note.IGNORED),
    Example("is ignored", completed, lambda j: j.compensation_failed("b"), C, Note.IGNORED),
    Example("is ignored", completed, lambda j: j.confirmed("b"), C, Note.IGNORED),
    Example("is ignored", completed, lambda j: j.confirm_failed("b"), C, Note.IGNORED),
    Example("is refused: it is done", completed, lambda j: j.cancel(), C, Note.REFUSED, refused="makes no sense"),
    Example("is refused", completed, lambda j: j.resume(), C, Note.REFUSED, refused="makes no sense"),
    Example("starts a run at the step", completed, lambda j: j.redrive("b"), R, Note.STARTED, "EXECUTE b"),
    # --- compensated
    Example("starts a run", lambda: compensated(**ALWAYS), lambda j: j.submit(offset=2), R, Note.STARTED, "EXECUTE a"),
    Example("is undone again", compensated, lambda j: j.succeed("a", 2), G, Note.LATE_EFFECT, "COMPENSATE a"),
    Example("of a clear kind is nothing", compensated, lambda j: j.fail("a", 2), U, Note.IGNORED),
    Example("forgets the saga", compensated, lambda j: j.fire(), N, Note.FORGOTTEN),
    Example("is ignored", compensated, lambda j: j.compensated("a"), U, Note.IGNORED),
    Example("is ignored", compensated, lambda j: j.compensation_failed("a"), U, Note.IGNORED),
    Example("is ignored", compensated, lambda j: j.confirmed("a"), U, Note.IGNORED),
    Example("is ignored", compensated, lambda j: j.confirm_failed("a"), U, Note.IGNORED),
    Example("is refused", compensated, lambda j: j.cancel(), U, Note.REFUSED, refused="makes no sense"),
    Example("is refused", compensated, lambda j: j.resume(), U, Note.REFUSED, refused="makes no sense"),
    Example("starts a run", compensated, lambda j: j.redrive("a"), R, Note.STARTED, "EXECUTE a"),
]
ROWS = [(phase, event) for phase in Phase for event in EVENTS]


@pytest.mark.parametrize(
    ("row", "example"),
    list(zip(ROWS, EXAMPLES, strict=True)),
    ids=[f"{phase}-{event.__name__}" for phase, event in ROWS],
)
def test_row(row: tuple[Phase, type], example: Example) -> None:
    """Each event, in each phase, does what its example says."""
    job = example.given()
    assert job.phase is row[0]
    example.event(job)
    assert type(job.inbox[-1][1]) is row[1]
    assert (job.phase, job.note) == (example.phase, example.note)
    assert " ".join(job.asked) == example.asked
    assert bool(job.refusal) == bool(example.refused)
    assert example.refused in job.refusal


def test_every_pair_is_a_row() -> None:
    """No event in any phase is without an answer."""
    assert set(PROTOCOL) == set(ROWS)


def test_a_row_allows_no_other_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transition outside its row raises, whatever led to it."""
    job = running()
    key = Phase.RUNNING, type(job.inbox[0][1])
    monkeypatch.setitem(protocol.PROTOCOL, key, ProtocolRow(PROTOCOL[key].handler, frozenset({Phase.PARKED})))
    with pytest.raises(ProtocolViolation, match="must not lead to RUNNING"):
        decide(job.saga, job.inbox[0][1], job.now)


@pytest.mark.parametrize(
    ("given", "event", "phase", "asked"),
    [
        (running, lambda j: j.fail("a"), U, " "),
        (lambda: running(steps="a"), lambda j: j.succeed("a"), C, " "),
        (lambda: compensated(), lambda j: j.fail("a", 2, outcome_unknown=True), G, "COMPENSATE a"),
        (lambda: completed(**ALWAYS), lambda j: j.submit(offset=2), R, "EXECUTE a"),
        (parked, lambda j: j.resume(SKIP, "by hand"), G, "COMPENSATE a"),
        (lambda: parked(steps="ab"), lambda j: j.succeed("a", 2), P, " "),
    ],
    ids=["failed-for-good", "last-step", "late-unknown", "resubmitted", "skipped", "late-while-parked"],
)
def test_other_outcomes(
    given: Callable[[], Driven], event: Callable[[Driven], object], phase: Phase, asked: str
) -> None:
    """Rows that lead to several phases: the outcomes that the examples don't show."""
    job = given()
    event(job)
    assert (job.phase, " ".join(job.asked)) == (phase, asked)
