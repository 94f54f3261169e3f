"""The schedule of a chaos run: repeatable, complete, and calm where it has to be."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.faults import CALL_OFF
from tests.chaos.schedule import KILLS, ChaosFault, Kind, schedule

ROLES = ("coordinator", "intake", "fetch", "parse", "enrich", "load", "notify")


def test_the_same_seed_gives_the_same_schedule() -> None:
    """Replaying a failure breaks the same things at the same time; another seed breaks others."""
    assert schedule(7, 120, ROLES, 6) == schedule(7, 120, ROLES, 6)
    assert schedule(7, 120, ROLES, 6) != schedule(8, 120, ROLES, 6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("minutes", [1, 2, 6])
def test_every_kind_of_fault_comes_in_each_block_and_in_time(seed: int, minutes: int) -> None:
    """Nothing is left to luck: each kind, twenty kills and each role are in two minutes of any seed."""
    faults = schedule(seed, minutes * 60, ROLES, 6)
    counts = Counter(fault.kind for fault in faults)
    assert set(counts) == set(Kind)
    assert sum(counts[kind] for kind in KILLS) >= 20 * max(1, minutes // 2)
    assert {fault.target for fault in faults if fault.kind is Kind.KILL} == set(ROLES)
    assert all(fault.at_s > 0 and fault.at_s + fault.lasting_s <= minutes * 60 for fault in faults)
    assert [*faults] == sorted(faults)


@pytest.mark.parametrize("seed", range(10))
def test_faults_of_one_place_do_not_overlap(seed: int) -> None:
    """What lasts at the API, at ClickHouse or in a process ends before the next begins: an end must not end another."""
    faults = schedule(seed, 240, ROLES, 6)

    def apart(places: list[ChaosFault]) -> bool:
        return all(a.at_s + a.lasting_s <= b.at_s for a, b in zip(places, places[1:], strict=False))

    for kinds in CALL_OFF:
        assert apart([fault for fault in faults if fault.kind in kinds])
    for role in ROLES:
        frozen = [fault for fault in faults if fault.kind is Kind.FREEZE and fault.target == role]
        assert apart(frozen), role


@pytest.mark.parametrize("seed", range(10))
def test_a_frozen_processor_outlasts_its_session(seed: int) -> None:
    """A shorter pause would be none: nobody would take over, and no zombie would wake."""
    frozen = [one for one in schedule(seed, 120, ROLES, 6) if one.kind is Kind.FREEZE]
    assert all(one.lasting_s > 6 for one in frozen)
