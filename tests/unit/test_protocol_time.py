"""Retries, deadlines and timers: how long a saga waits, and that nothing happens early."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from processors.saga.commands import Note, outstanding
from processors.saga.events import TimedOut
from processors.saga.moves import backoff_ms, first_due, jitter, with_flight
from processors.saga.plan import RetryPolicy
from processors.saga.protocol import poisoned
from processors.saga.state import Action, Phase
from tests.sagas import DEADLINE_MS, START_MS, Driven, compensating, completed, parked, plan, running, step

POLICY = RetryPolicy(attempts=5, base_ms=1_000, cap_ms=60_000, total_ms=600_000)
SLOW = (step("a", retry=POLICY), step("b"))


def timer(job: Driven) -> TimedOut:
    """The timer of the present state."""
    return TimedOut("j", job.state.seq)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_bounds(attempt: int, spread: float) -> None:
    """A backoff is never negative, never over the cap, never over base * 2^(attempt - 1)."""
    wait = backoff_ms(POLICY, attempt, spread)
    assert 0 <= wait <= min(POLICY.cap_ms, POLICY.base_ms * 2 ** min(attempt - 1, 40))


def test_full_jitter_spreads_over_the_whole_ceiling() -> None:
    """Waits of many jobs fill the interval from nothing to the ceiling."""
    waits = []
    for number in range(400):
        job = Driven(plan(SLOW))
        job.offset = number * 7
        job.submit()
        waits.append(backoff_ms(POLICY, 3, jitter(job.state)))
    assert min(waits) < 200
    assert max(waits) > 3_800
    assert 1_700 < sum(waits) / len(waits) < 2_300


def test_replay_waits_as_long() -> None:
    """The jitter depends on the saga alone: a replay decides the same."""
    first, second = running(steps=SLOW), running(steps=SLOW)
    first.fail("a", retryable=True)
    second.fail("a", retryable=True)
    assert first.state == second.state


def test_a_retry_waits_as_a_timer() -> None:
    """While a retry waits, nothing is under way; its timer commands the next attempt."""
    job = running(steps=SLOW)
    job.fail("a", retryable=True, retry_after_ms=5_000)
    assert (job.flight.command_seq, job.asked) == (0, ("", ""))
    assert job.state.due_ms == job.now + 5_000
    job.fire()
    assert (job.asked, job.flight.attempt) == (("EXECUTE", "a"), 2)


def test_retry_after_is_a_minimum() -> None:
    """A wish to wait longer than the backoff is honoured; a shorter one doesn't shorten it."""
    job = running(steps=SLOW)
    job.fail("a", retryable=True, retry_after_ms=30_000)
    assert job.state.due_ms == job.now + 30_000
    other = running(steps=SLOW)
    other.fail("a", retryable=True, retry_after_ms=1)
    backoff = backoff_ms(POLICY, 1, jitter(running(steps=SLOW).state))
    assert other.state.due_ms == other.now + max(1, backoff)


def test_a_retry_after_beyond_the_total_time_aborts() -> None:
    """A wait that would end past the policy's total time isn't begun."""
    job = running(steps=SLOW)
    job.fail("a", retryable=True, retry_after_ms=POLICY.total_ms + 1)
    assert job.phase is Phase.COMPENSATED


def test_attempts_are_bounded() -> None:
    """After the last attempt a retryable failure aborts."""
    job = running()
    job.fail("a", retryable=True)
    job.fail("a", retryable=True)
    assert job.phase is Phase.COMPENSATED


def test_what_cannot_help_is_not_retried() -> None:
    """A failure that says that a retry can't help aborts at once."""
    job = running()
    job.fail("a")
    assert job.phase is Phase.COMPENSATED


def test_a_new_step_has_its_whole_budget() -> None:
    """Attempts and total time count for each step anew."""
    job = running()
    job.fail("a", retryable=True)
    job.succeed("a")
    assert (job.flight.attempt, job.flight.first_ms) == (1, job.now)


def test_compensations_have_the_longer_budget() -> None:
    """An undo is tried by its own policy, then parks: it never vanishes."""
    job = compensating()
    seen = []
    while job.phase is Phase.COMPENSATING:
        seen.append(job.flight.attempt)
        job.compensation_failed("b")
    assert (seen, job.phase) == ([1, 2, 3], Phase.PARKED)
    assert "compensation of b gave up" in job.state.reason


def test_timed_out_compensations_park() -> None:
    """An undo that nobody answers is tried again, then parks."""
    job = compensating()
    for _ in range(3):
        job.fire()
    assert (job.phase, job.state.due_ms) == (Phase.PARKED, 0)


def test_an_early_timer_changes_nothing() -> None:
    """A timer that rings before its time, by the broker's clock, is early."""
    job = running()
    before = job.saga
    job.on(timer(job), after_ms=1)
    assert (job.note, job.saga) == (Note.EARLY, before)


def test_a_timer_is_due_at_its_millisecond() -> None:
    """A timer at exactly its time counts."""
    job = running()
    job.on(timer(job), after_ms=job.state.due_ms - job.now)
    assert job.note is Note.RETRYING


def test_a_stale_timer_changes_nothing() -> None:
    """The timer of a state that has passed is stale, however late it is."""
    job = running()
    old = job.state.seq
    job.succeed("a")
    before = job.saga
    job.fire(old)
    assert (job.note, job.saga) == (Note.STALE, before)


def test_an_early_or_stale_timer_forgets_nothing() -> None:
    """A saga is kept for its whole retention."""
    job = completed()
    job.on(timer(job), after_ms=1)
    assert job.note is Note.EARLY
    job.fire(job.state.seq - 1)
    assert (job.note, job.phase) == (Note.STALE, Phase.COMPLETED)


def test_the_deadline_aborts() -> None:
    """A saga that runs out of time is undone, whatever is under way."""
    job = running(steps=(step("a", timeout_ms=DEADLINE_MS * 2), step("b")))
    assert job.state.due_ms == job.state.deadline_ms == START_MS + 1 + DEADLINE_MS
    job.fire()
    assert (job.phase, job.asked) == (Phase.COMPENSATING, ("COMPENSATE", "a"))
    assert job.state.reason == "the saga ran out of time"


def test_no_retry_is_planned_past_the_deadline() -> None:
    """A retry that would start at the deadline or later isn't waited for."""
    job = running(steps=(step("a", retry=RetryPolicy(9, 0, 0, DEADLINE_MS * 3)), step("b")))
    job.fail("a", retryable=True, retry_after_ms=DEADLINE_MS)
    assert job.phase is Phase.COMPENSATED


def test_a_waiting_retry_gives_way_to_the_deadline() -> None:
    """A retry's timer that rings after the deadline aborts instead of trying again."""
    job = running(steps=SLOW)
    job.fail("a", retryable=True, retry_after_ms=9_000)
    job.on(timer(job), after_ms=DEADLINE_MS)
    assert job.phase is Phase.COMPENSATED


def test_the_deadline_spares_compensations() -> None:
    """An undo that has begun is never given up for lack of time."""
    job = compensating()
    job.now = START_MS + DEADLINE_MS + 1
    job.fire()
    assert (job.note, job.asked) == (Note.RETRYING, ("COMPENSATE", "b"))


def test_without_a_deadline_there_is_none() -> None:
    """deadline 0 means never."""
    job = running(deadline_ms=0)
    assert (job.state.deadline_ms, job.state.due_ms) == (0, job.now + 1_000)


def test_waiting_for_a_person_is_not_counted() -> None:
    """A saga that was parked past its deadline has a whole new one when it is resumed."""
    job = running()
    job.saga = poisoned(job.state, 2, "KeyError('x')", job.now)
    job.offset, job.now = 2, START_MS + 5 * DEADLINE_MS
    job.resume()
    assert job.asked == ("EXECUTE", "a")
    assert job.state.deadline_ms == job.now + DEADLINE_MS
    assert job.state.due_ms == job.now + 1_000


def test_a_resumed_compensation_has_its_whole_budget() -> None:
    """Resuming starts the attempts and the total time anew."""
    job = parked()
    job.resume()
    assert (job.flight.attempt, job.flight.first_ms, job.flight.action) == (1, job.now, Action.COMPENSATE)


@pytest.mark.parametrize("given_job", [running, compensating, completed])
def test_numbers_grow_by_one(given_job: Callable[[], Driven]) -> None:
    """Every saved state has the next number."""
    job = given_job()
    job.fire()
    seqs = [one.saga.seq for one in job.decisions if one.changed and one.saga]
    assert all(after == before + 1 for before, after in pairwise(seqs))


def test_a_state_gives_all_commands_that_it_issued() -> None:
    """A state may have several steps in flight: it gives the command of each that it issued, in the order of the steps."""
    job = running(steps="abc")
    job.succeed("a")
    issued = job.flight
    earlier = replace(issued, command_seq=issued.command_seq - 1)
    both = with_flight(with_flight(job.state, 2, issued), 0, earlier)
    assert [(one.step, one.seq) for one in outstanding(both)] == [("b", both.seq), ("c", both.seq)]
    assert (both.in_flight, both.at) == ((0, 1, 2), "a, b, c")


def test_the_earliest_of_all_that_is_in_flight_sets_the_timer() -> None:
    """A saga has one timer, that of the step that is due first."""
    job = running(steps="abc")
    late, soon = replace(job.flight, due_ms=job.now + 9_000), replace(job.flight, due_ms=job.now + 5)
    saga = with_flight(with_flight(job.state, 0, late), 1, soon)
    assert (saga.due_ms, first_due(saga)) == (job.now + 5, (1, soon))
    assert with_flight(saga, 1, None).due_ms == job.now + 9_000
    assert with_flight(with_flight(saga, 1, None), 0, None).due_ms == 0
