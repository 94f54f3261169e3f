"""Entries of the spend ledger that may go, and the sum that stays the same without them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from processors.errors import BadRecord
from processors.spend.book import SpendBook, SpendEntry, SpendState
from processors.spend.pruning import carried_key, carry, forgettable, sums, taken_over

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)


def entry(job: str, state: SpendState = SpendState.PAID, at: datetime = LONG_AGO, claimed_by: str = "") -> SpendEntry:
    """An entry of one call that cost 2."""
    key = f"{job}:1:enrich"
    return SpendEntry(
        key=key,
        version=1,
        pipeline="p",
        step="enrich",
        content_hash="c",
        cost=Decimal(2),
        cap=Decimal(100),
        state=state,
        seq=3,
        written_by=key,
        at=at.isoformat(),
        claimed_by=claimed_by,
    )


def keys(found: dict[str, list[SpendEntry]]) -> list[str]:
    """The jobs of pipeline p that may be forgotten."""
    return [one.key.split(":")[0] for one in found.get("p", [])]


def test_what_no_saga_needs_may_go() -> None:
    """Old entries of forgotten sagas go, oldest first; young ones, and those of live sagas or used by one, stay."""
    older = LONG_AGO - timedelta(days=1)
    entries = [
        entry("old"),
        entry("older", SpendState.CANCELLED, older),
        entry("young", at=NOW - timedelta(days=1)),
        entry("live"),
        entry("passed-on", SpendState.USED, claimed_by="live:1:enrich"),
        entry("passed-on-and-done", SpendState.USED, claimed_by="gone:1:enrich"),
        entry("asked", SpendState.RESERVED),
    ]
    found = keys(forgettable(entries, NOW - timedelta(days=90), {"live"}))
    assert found == ["older", "old", "passed-on-and-done"]


def test_the_sum_stays_the_same() -> None:
    """Whatever was spent is carried; what the API took back wasn't spent. Twice over, and in a fresh book too."""
    book = SpendBook()
    log: list[tuple[str, SpendEntry | None]] = [(one.key, one) for one in (entry("a"), entry("b"), entry("c"))]
    log += [(one.key, one) for one in (entry("d", SpendState.CANCELLED), entry("e", SpendState.UNUSED))]
    for going in (["a", "d"], ["b", "e"]):
        entries = [one for key, one in log if one is not None and key.split(":")[0] in going]
        carried = next((one for key, one in reversed(log) if key == carried_key("p")), None)
        after = carry(carried, "p", entries, NOW)
        log += [(after.key, after), *((one.key, None) for one in entries)]
    for offset, (key, one) in enumerate(log):
        book.fold(offset, key, one)
    assert book.total("p") == 8
    compacted = SpendBook()
    for offset, (key, one) in enumerate(dict(log).items()):
        compacted.fold(offset, key, one)
    assert compacted.total("p") == 8


def test_a_run_that_broke_off_is_known() -> None:
    """The carried entry lists what it has taken over: without their tombstones they must not be carried again."""
    assert taken_over(None) == frozenset()
    carried = carry(None, "p", [entry("a"), entry("b")], NOW)
    assert taken_over(SpendEntry.decode(carried.encode())) == {"a:1:enrich", "b:1:enrich"}
    assert taken_over(carry(carried, "p", [], NOW)) == frozenset()


def test_a_sum_is_forgotten_only_when_asked_for() -> None:
    """By itself it stays, however old: it is what the cap is about."""
    carried = carry(None, "p", [entry("a")], LONG_AGO)
    assert forgettable([carried], NOW, ()) == {}
    assert forgettable([carried], NOW, (), carried=True) == {"p": [carried]}


def test_sums_are_told_by_state() -> None:
    """How many entries there are, and what they cost."""
    assert sums([entry("a"), entry("b"), entry("c", SpendState.CANCELLED)]) == {
        "p": {SpendState.PAID: (2, Decimal(4)), SpendState.CANCELLED: (1, Decimal(2))}
    }


def test_an_entry_without_a_time_stops_it() -> None:
    """Nothing is forgotten on a guess."""
    broken = SpendEntry.decode(entry("a").encode().replace(LONG_AGO.isoformat().encode(), b"x" * 25))
    with pytest.raises(BadRecord, match="not a time"):
        forgettable([broken], NOW, ())
