"""Which offset may be committed, whatever the order in which records are finished."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.kafka.record import Batch, Part, Record
from processors.transport.offset_tracker import OffsetTracker


def tracker() -> OffsetTracker:
    return OffsetTracker(lambda: None)


def test_nothing_is_committable_before_anything_is_done() -> None:
    """Handing records out moves no offset."""
    made = tracker()
    assert made.committable is None
    made.hand_out([5, 6, 7], now=1.0)
    assert made.committable is None
    assert made.in_flight == 3


def test_a_whole_run_done_commits_the_offset_after_it() -> None:
    """Kafka's committed offset is that of the next record."""
    made = tracker()
    made.hand_out([5, 6, 7], now=1.0)
    made.done_run([5, 6, 7])
    assert made.committable == 8
    assert made.in_flight == 0
    made.committed = 8
    assert made.committable is None


def test_the_lowest_unfinished_record_holds_back_the_offset() -> None:
    """Records done out of order count once everything before them is done."""
    made = tracker()
    made.hand_out([5, 6, 7, 8], now=1.0)
    made.done(7)
    made.done(6)
    assert made.committable is None
    assert made.in_flight == 2
    made.done(5)
    assert made.committable == 8
    made.done(8)
    assert made.committable == 9


def test_gaps_of_compaction_are_no_holes() -> None:
    """Offsets that were never handed out hold back nothing."""
    made = tracker()
    made.hand_out([5, 9, 40], now=1.0)
    made.done(5)
    assert made.committable == 9
    made.done_run([9, 40])
    assert made.committable == 41


def test_done_twice_is_done_once() -> None:
    """A repeated acknowledgement, early or late, changes nothing."""
    made = tracker()
    made.hand_out([0, 1, 2], now=1.0)
    made.done(1)
    made.done(1)
    assert made.in_flight == 2
    made.done_run([0, 1, 2])
    made.done(0)
    made.done_run([0, 1, 2])
    assert (made.in_flight, made.committable) == (0, 3)


def test_an_acknowledgement_after_the_partition_was_revoked_is_ignored() -> None:
    """What was not committed before belongs to the next owner."""
    made = tracker()
    made.hand_out([0, 1], now=1.0)
    made.close()
    made.done(0)
    made.done_run([0, 1])
    assert made.committable is None
    assert made.in_flight == 0
    assert not made.owned


def test_the_oldest_unfinished_hand_out_is_known() -> None:
    """A stuck record shows by its age, however much is finished behind it."""
    made = tracker()
    made.hand_out([0, 1], now=1.0)
    made.hand_out([2, 3], now=2.0)
    made.done_run([2, 3])
    assert made.oldest_handed_at == 1.0
    made.done(0)
    assert made.oldest_handed_at == 1.0
    made.done(1)
    assert made.oldest_handed_at is None


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_the_committable_offset_is_the_lowest_one_not_done(count: int, chance: random.Random) -> None:
    """At each step of any order of hand-outs and acknowledgements, compared with the definition."""
    made = tracker()
    handed: list[int] = []
    done: set[int] = set()
    runs: list[list[int]] = []
    following = 10
    for _ in range(count):
        if chance.random() < 0.4 or len(done) == len(handed):
            run = [following + i for i in range(chance.randint(1, 4))]
            following = run[-1] + chance.randint(1, 3)
            made.hand_out(run, now=0.0)
            handed += run
            runs.append(run)
        elif chance.random() < 0.3:
            run = chance.choice(runs)
            made.done_run(run)
            done.update(run)
        else:
            offset = chance.choice([offset for offset in handed if offset not in done])
            made.done(offset)
            done.add(offset)
        left = [offset for offset in handed if offset not in done]
        expected = left[0] if left else handed[-1] + 1
        assert made.committable == (None if expected == 10 else expected)
        assert made.in_flight == len(left)


def record(partition: int, offset: int) -> Record:
    return Record("t", partition, offset, 0, None, None, ())


def test_a_batch_acknowledges_each_record_to_its_own_partition() -> None:
    """done_one() of one partition moves nothing in another."""
    first, second = tracker(), tracker()
    first.hand_out([0, 1], now=0.0)
    second.hand_out([0, 1], now=0.0)
    records = [record(1, 0), record(1, 1), record(2, 0), record(2, 1)]
    batch = Batch(records, [Part(1, first, [0, 1]), Part(2, second, [0, 1])])
    batch.done_one(records[3])
    batch.done_one(records[0])
    assert (first.committable, second.committable) == (1, None)
    second.close()
    assert batch.owns(records[0])
    assert not batch.owns(records[2])
    batch.done()
    assert (first.committable, second.committable) == (2, None)


def test_a_record_of_another_batch_is_refused() -> None:
    """Acknowledging what the batch doesn't hold is a mistake of the caller, not a lost record."""
    first = tracker()
    first.hand_out([0], now=0.0)
    with pytest.raises(KeyError):
        Batch([record(1, 0)], [Part(1, first, [0])]).done_one(record(2, 0))


def test_what_lies_behind_the_last_record_is_passed_over_once_all_is_done() -> None:
    """Markers of transactions and aborted records leave no lag; a record that waits or is in work holds back the offset."""
    made = tracker()
    made.queue(7)
    made.fetched_to(10)
    assert made.committable is None
    made.hand_out([5, 6], now=1.0)
    made.done_run([5, 6])
    assert made.committable == 7, "7 still waits for the agent"
    made.hand_out([7], now=1.0)
    assert made.committable == 7
    made.done(7)
    assert made.committable == 10
    made.committed = 10
    made.queue(12)
    assert made.committable is None, "an offset is never taken back"
    made.hand_out([12], now=1.0)
    made.done(12)
    assert made.committable == 13, "fetched to 10 was before"


def test_a_partition_of_aborted_records_alone_moves_on() -> None:
    """Nothing was ever handed out, and yet there is nothing left to do."""
    made = tracker()
    made.committed = 4
    made.fetched_to(4)
    assert made.committable is None
    made.fetched_to(9)
    assert made.committable == 9
