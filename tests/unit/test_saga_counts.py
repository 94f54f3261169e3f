"""The counting rule: whatever sagas do, the counts says what a walk over all of them would."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from processors.roles.saga_counts import UNFINISHED, SagaCounts
from processors.saga.state import Phase

STATES = st.tuples(st.sampled_from([phase for phase in Phase if phase is not Phase.NEW]), st.integers(0, 20_000))
MOVES = st.lists(st.tuples(st.integers(0, 9), st.none() | STATES), max_size=200)


@given(MOVES)
def test_it_agrees_with_a_walk_over_all_sagas(moves: list[tuple[int, tuple[Phase, int] | None]]) -> None:
    """After any moves (None: forgotten) counts and oldest beginnings are those of the sagas that there are."""
    sagas: dict[int, tuple[Phase, int]] = {}
    saga_counts = SagaCounts()
    for key, after in moves:
        before = sagas.pop(key, None)
        if before is not None:
            saga_counts.leave(*before)
        if after is not None:
            sagas[key] = after
            saga_counts.enter(*after)
        found = Counter(phase for phase, _ in sagas.values())
        assert saga_counts.counts == {phase: found[phase] for phase in Phase}
        for phase in UNFINISHED:
            began = [started // 1000 * 1000 for in_phase, started in sagas.values() if in_phase is phase]
            assert saga_counts.oldest_ms(phase) == min(began, default=None)


def test_what_has_ended_has_no_age() -> None:
    """Only phases that somebody waits for are asked for their oldest: parked sagas wait for a person."""
    assert UNFINISHED == (Phase.RUNNING, Phase.COMPENSATING, Phase.PARKED)


def test_seconds_that_are_over_are_forgotten() -> None:
    """The counts don't grow with the sagas that pass through, even behind one that hangs."""
    saga_counts = SagaCounts()
    saga_counts.enter(Phase.RUNNING, 0)
    for second in range(1, 50_000):
        saga_counts.enter(Phase.RUNNING, second * 1000)
        if second > 1:
            saga_counts.leave(Phase.RUNNING, (second - 1) * 1000)
    began = saga_counts._began[Phase.RUNNING]
    assert list(began.at) == [0, 49_999]
    assert len(began._order) < 2_000
    assert saga_counts.oldest_ms(Phase.RUNNING) == 0
