"""Log lines of a library that repeats itself while Kafka is away."""

from __future__ import annotations

import logging

from processors.observability.log_format import Repeats


def said(filter_: Repeats, name: str, text: str, *args: object) -> str:
    """What is logged of a message; empty if it is held back."""
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)
    return record.getMessage() if filter_.filter(record) else ""


def test_a_library_that_repeats_itself_is_heard_every_ten_seconds() -> None:
    """The first message passes, those like it don't, and the next that passes says how many there were."""
    now = [0.0]
    repeats = Repeats("aiokafka", clock=lambda: now[0])
    assert said(repeats, "aiokafka.conn", "no connection to node %s", 1) == "no connection to node 1"
    for tenth in range(1, 100):
        now[0] = tenth / 10
        assert said(repeats, "aiokafka.conn", "no connection to node %s", tenth) == ""
    now[0] = 10.0
    assert said(repeats, "aiokafka.conn", "no connection to node %s", 2) == "no connection to node 2 (99 more like it)"
    now[0] = 20.5
    assert said(repeats, "aiokafka.conn", "no connection to node %s", 3) == "no connection to node 3"


def test_other_messages_and_other_loggers_are_not_held_back() -> None:
    """Another text of the library is news, and what the engine says is never held back."""
    repeats = Repeats("aiokafka", clock=lambda: 0.0)
    assert said(repeats, "aiokafka", "one") and said(repeats, "aiokafka", "two")
    assert [said(repeats, "processors.process.process", "ready") for _ in range(3)] == ["ready"] * 3
    assert [said(repeats, "aiokafkaesque", "hm") for _ in range(2)] == ["hm"] * 2


def test_a_library_with_one_text_for_all_is_told_apart_by_what_it_says_first() -> None:
    """librdkafka's messages share their text: a failed connection must not hide a fatal error."""
    repeats = Repeats("librdkafka", first=1, clock=lambda: 0.0)
    assert said(repeats, "librdkafka", "%s [%s] %s", "FAIL", "p", "refused") == "FAIL [p] refused"
    assert said(repeats, "librdkafka", "%s [%s] %s", "FAIL", "p", "refused again") == ""
    assert said(repeats, "librdkafka", "%s [%s] %s", "FATAL", "p", "fenced") == "FATAL [p] fenced"
