"""Planted bugs are found: some of each level here; `make planted`, which CI runs too, hunts all of them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from processors.simulation.rules.history import history
from tests.sim.planted import ALL_BUGS, BUGS, PLANS, differing, hunt
from tests.sim.planting import Bug
from tests.sim.report import MarkerMissing, put_table

pytestmark = pytest.mark.timeout(300)
#: Bugs that a few histories find.
QUICK = (
    "only what succeeded is compensated",
    "cancel loses the running step",
    "numbers start over with a new run",
    "a worker vouches for its predecessor",
    "offset committed before saved",
    "paid once per attempt",
    "coordinator: saved before sent",
)


@pytest.mark.parametrize("name", QUICK)
def test_planted_bug_is_caught(name: str) -> None:
    """A saga engine with this bug breaks a promise that we check."""
    (bug,) = (one for one in ALL_BUGS if one.name == name)
    assert hunt(bug, 200) is not None


def test_a_bug_that_is_none_is_not_found() -> None:
    """The hunt finds bugs, not noise."""
    assert hunt(Bug("none", nullcontext), 50) is None


def test_nothing_is_left_planted() -> None:
    """Once the bugs are out, the same histories keep every promise."""
    for bug in ALL_BUGS:
        with bug.plant():
            pass
    for seed in range(100):
        assert not history(seed, PLANS[seed % len(PLANS)])[0].violations


def test_there_are_enough_and_each_has_a_name() -> None:
    """At least forty bugs, none counted twice."""
    assert len({bug.name for bug in ALL_BUGS}) == len(ALL_BUGS) >= 40


def test_the_document_knows_every_bug() -> None:
    """The table in docs/verification.md names each planted bug, as caught."""
    assert differing(Path(__file__).parents[2] / "docs" / "verification.md", ALL_BUGS) == []


def test_a_document_that_lacks_a_bug_is_noticed(tmp_path: Path) -> None:
    """A bug that isn't in the table, or is there as not found, makes the run fail."""
    document = tmp_path / "document.md"
    rows = [f"| {bug.name} | simulator | 1 | a rule |" for bug in BUGS[2:]]
    rows.append(f"| {BUGS[0].name} | NOT FOUND |  |  |")
    lines = ["| planted bug | found by | after | broken promise |", "|---|---|---:|---|", *rows]
    document.write_text("\n".join(["<!-- planted -->", *lines, "<!-- /planted -->", ""]))
    assert differing(document, BUGS) == sorted([BUGS[0].name, BUGS[1].name])


def test_a_table_needs_its_place(tmp_path: Path) -> None:
    """A document without the markers is left alone."""
    document = tmp_path / "document.md"
    document.write_text("text\n<!-- planted -->\nold\n<!-- /planted -->\nmore\n")
    put_table(str(document), "planted", ["| a |"])
    assert document.read_text() == "text\n<!-- planted -->\n| a |\n<!-- /planted -->\nmore\n"
    with pytest.raises(MarkerMissing):
        put_table(str(document), "other", [])
