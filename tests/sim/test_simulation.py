"""Random histories of the default pipeline: no promise is broken, every kind of fault is met, one seed is one history."""

from __future__ import annotations

import pytest

from processors.saga.invariants import Violation, check_log
from processors.saga.plan import Resubmit
from processors.simulation.rules.faults import GENEROUS, LIMIT_OF, Limit, RuleFault
from processors.simulation.rules.history import history, replay
from processors.simulation.rules.moves import Move
from processors.simulation.rules.report import run, summary
from processors.simulation.rules.shrink import shrunk
from processors.simulation.rules.world import JOB
from tests.sim.plans import shop
from tests.sim.planted import BUGS

pytestmark = pytest.mark.timeout(300)
HISTORIES = 1_500


@pytest.mark.parametrize("policy", list(Resubmit))
def test_no_promise_is_broken(policy: Resubmit) -> None:
    """A few thousand histories in which everything goes wrong keep every promise, and meet every kind of fault."""
    report = run(range(HISTORIES), shop(policy))
    assert not report.failures, report.failures[0].story
    assert set(report.faults) == set(RuleFault)
    assert min(report.faults.values()) > 20
    assert set(report.ends) == {"COMPLETED", "COMPENSATED", "PARKED", "forgotten"}


def test_without_faults_every_saga_completes() -> None:
    """A world without budget for faults has one end."""
    report = run(range(50), shop(), dict.fromkeys(Limit, 0))
    assert dict(report.ends) == {"COMPLETED": 50}


def test_one_seed_is_one_history() -> None:
    """The same seed takes the same moves, told or not."""
    for seed in range(1, 40):
        _, first = history(seed, shop())
        _, second = history(seed, shop(), traced=True)
        assert first == second


def test_every_fault_has_a_budget() -> None:
    """A fault without a limit would never end, one without a budget would never happen."""
    assert set(LIMIT_OF) == set(RuleFault)
    assert set(GENEROUS) == set(Limit)
    assert all(GENEROUS.values())


def test_a_failure_is_short_and_can_be_followed() -> None:
    """A failing history is cut to the moves that matter, and told with its saga, its outside and what broke."""
    bug = next(one for one in BUGS if one.name == "the tombstone is missing")
    with bug.plant():
        report = run(range(2_000), shop())
        failure = report.failures[0]
        _, whole = history(failure.seed, shop())
        assert len(failure.moves) < len(whole)
        again = replay(failure.moves, shop())
        assert again is not None
        assert again.violations[0].rule == failure.violations[0].rule
    assert "!! compensated means no effect left" in failure.story
    assert "notify" in failure.story
    assert failure.story.startswith(f"seed {failure.seed}") and failure.story in summary(shop(), report)


def test_moves_that_are_not_possible_are_not_replayed() -> None:
    """A shortened history that couldn't happen proves nothing."""
    assert replay([Move("submit"), Move("work", 3)], shop()) is None


def test_shrinking_keeps_what_does_not_fail() -> None:
    """A history without a broken promise stays as it is."""
    _, moves = history(3, shop())
    assert shrunk(moves, shop(), GENEROUS)[0] == moves


def test_a_forged_state_is_noticed() -> None:
    """A saved state that isn't the fold of the log is found by its number."""
    world, _ = history(0, shop(), traced=True)
    state = next(one for one, _ in world.sent if one is not None)
    forged = type(state)(**{**{name: getattr(state, name) for name in state.__struct_fields__}, "url": "http://y/"})
    assert check_log(world.log, {state.seq: state}, {}, JOB, world.poison) == []
    assert check_log(world.log, {state.seq: forged}, {}, JOB, world.poison) == [
        Violation("state is the fold of its events", JOB, f"seq {state.seq} was saved otherwise")
    ]
