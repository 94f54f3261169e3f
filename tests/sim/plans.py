"""The plans that are walked and simulated, and their budgets of faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from processors.saga.plan import Plan, Resubmit, RetryPolicy, StepPlan
from processors.simulation.rules.faults import Limit
from tests.sagas import plan, step

ONCE = RetryPolicy(attempts=1, base_ms=0, cap_ms=0, total_ms=10_000_000)
TWICE = RetryPolicy(attempts=2, base_ms=0, cap_ms=0, total_ms=10_000_000)


def page(name: str = "fetch", **changes: Any) -> StepPlan:
    """A step that archives a page; two attempts, also of its undo."""
    return step(name, **{"use": "sim:page", "retry": TWICE, "undo_retry": TWICE, **changes})


def paid(name: str = "enrich", **changes: Any) -> StepPlan:
    """A step that pays."""
    return page(name, **{"use": "sim:paid", **changes})


def row(name: str = "load", **changes: Any) -> StepPlan:
    """A step that loads a row."""
    return page(name, **{"use": "sim:row", **changes})


def record(name: str = "notify", **changes: Any) -> StepPlan:
    """A step that publishes the record."""
    return page(name, **{"use": "sim:record", **changes})


def pure(name: str = "parse", **changes: Any) -> StepPlan:
    """A step that has nothing to undo."""
    return page(name, **{"use": "sim:none", "undoable": False, **changes})


def shop(resubmit: Resubmit = Resubmit.ALWAYS) -> Plan:
    """The default pipeline."""
    return plan((page(), pure(), paid(), row(confirms=True), record()), resubmit=resubmit)


# Two effects are enough for an order of compensations, and one attempt of each for what a first and a last step can meet.
PAIR = plan((page(retry=ONCE, undo_retry=ONCE), record(retry=ONCE, undo_retry=ONCE)))
RETRIED = plan((page(), paid(retry=ONCE, undo_retry=ONCE)))
ALWAYS = plan((page(retry=ONCE, undo_retry=ONCE), record(retry=ONCE, undo_retry=ONCE)), resubmit=Resubmit.ALWAYS)
CONFIRMED = plan((row(confirms=True, retry=ONCE), record(retry=ONCE)))
THREE = plan((page(retry=ONCE, undo_retry=ONCE), pure(retry=ONCE), paid(retry=ONCE, undo_retry=ONCE)))

TWICE_EACH = plan((page(), pure(), paid()))

Walk = tuple[str, Plan, Mapping[Limit, int]]
F, U, C, L = Limit.FAILURES, Limit.UNDO_FAILURES, Limit.CRASHES, Limit.LATE
T, K, D, X, P = Limit.TIME, Limit.COORDINATOR, Limit.DUPLICATES, Limit.CANCELS, Limit.OPERATORS

SMALL: list[Walk] = [
    ("failures and timeouts", PAIR, {F: 1, U: 1, T: 2, P: 1}),
    ("a late reply, a cancel", PAIR, {L: 1, T: 1, X: 1}),
    ("worker crashes", PAIR, {C: 2, F: 1}),
]
CI: list[Walk] = [
    *SMALL,
    ("two attempts, a late reply", RETRIED, {F: 1, L: 1, T: 1}),
    ("two attempts, a crash, a cancel", RETRIED, {C: 1, X: 1, T: 1, F: 1}),
    ("coordinator crashes", PAIR, {K: 2, F: 1, X: 1}),
    ("duplicates", ALWAYS, {D: 2, F: 1}),
    ("redrives", PAIR, {F: 1, P: 1, L: 1, T: 1}),
    ("confirmations", CONFIRMED, {F: 1, U: 1, C: 1, P: 1}),
    ("three steps", THREE, {F: 1, L: 1, X: 1}),
]
LARGE: list[Walk] = [
    *CI,
    ("two attempts, late replies and timeouts", RETRIED, {F: 1, L: 1, T: 2}),
    ("three steps, a timeout", THREE, {F: 1, L: 1, T: 1, X: 1}),
    ("everything once", RETRIED, {F: 1, C: 1, L: 1, T: 1, X: 1}),
    ("crashes and late replies", PAIR, {C: 2, L: 1, X: 1, T: 1}),
    ("duplicates of all kinds, crashes", ALWAYS, {D: 2, C: 1, K: 1}),
    ("three steps, crashes", THREE, {C: 2, L: 1, X: 1, F: 1}),
]
# A minute of one core: for a release, not for each commit.
FIGURE: list[Walk] = [
    ("three steps, a crash, duplicates, a cancel", TWICE_EACH, {C: 1, D: 2, X: 1}),
    ("three steps, crashes, duplicates, a cancel", TWICE_EACH, {C: 2, D: 2, X: 1}),
]
WALKS = {"small": SMALL, "ci": CI, "large": LARGE, "figure": FIGURE}
