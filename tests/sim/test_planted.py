"""Every planted bug is found, within few histories: what finds nothing here would find nothing elsewhere."""

from __future__ import annotations

import pytest

from processors.simulation.history import history
from tests.sim.planted import BUGS, PLANS, Bug, hunt
from tests.sim.report import MarkerMissing, put_table

pytestmark = pytest.mark.timeout(120)
# The hardest of them takes some 10,000; what the histories miss, the small walk finds.
HISTORIES = 12_000


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_planted_bug_is_caught(bug: Bug) -> None:
    """A saga engine with this bug breaks a promise that we check."""
    assert hunt(bug, HISTORIES) is not None


def test_nothing_is_left_planted() -> None:
    """Once the bugs are out, the same histories keep every promise."""
    for bug in BUGS:
        with bug.plant():
            pass
    for seed in range(100):
        assert not history(seed, PLANS[seed % len(PLANS)])[0].broken


def test_there_are_enough_and_each_has_a_name() -> None:
    """At least forty bugs, none counted twice."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 40


def test_a_table_needs_its_place(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A document without the markers is left alone."""
    document = tmp_path / "document.md"
    document.write_text("text\n<!-- planted -->\nold\n<!-- /planted -->\nmore\n")
    put_table(str(document), "planted", ["| a |"])
    assert document.read_text() == "text\n<!-- planted -->\n| a |\n<!-- /planted -->\nmore\n"
    with pytest.raises(MarkerMissing):
        put_table(str(document), "other", [])
