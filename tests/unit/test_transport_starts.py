"""Where a process begins to read: at what was committed before its table was restored, not at what is by now."""

from __future__ import annotations

from faust.types import TP

from processors.transport.offset_tracker import moved


def test_what_nobody_has_committed_since_stays() -> None:
    """The usual case: the offsets of before and after the recovery are the same."""
    assert moved({TP("t", 0): 5, TP("t", 1): None}, {TP("t", 0): 5}) == {}


def test_where_somebody_has_gone_on_the_process_begins_before() -> None:
    """It repeats what its table has, and applies what follows; from the later offset it would leave events out."""
    assert moved({TP("t", 0): 5, TP("t", 1): None}, {TP("t", 0): 9, TP("t", 1): 2}) == {TP("t", 0): 5, TP("t", 1): None}


def test_a_partition_that_was_not_asked_for_is_left_alone() -> None:
    """Kafka didn't answer before the recovery, or the partition came by another way."""
    assert moved({}, {TP("t", 0): 9}) == {}
