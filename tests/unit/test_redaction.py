"""What people are shown of what strangers wrote."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.cli import show
from processors.kafka.record import Record
from processors.observability.log_format import JsonLines, TextLines
from processors.operations.job_history import Decoded
from processors.redaction import one_line, sanitised_url

FORGED = "no price\n2026-01-31 06:00:00,000 INFO    saga completed\x1b[2K\x9b31m\u2028\u202e"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://shop.example/p/1", "http://shop.example/p/1"),
        ("http://me:pw@shop.example:8080/p?token=t#f", "http://shop.example:8080/p?***"),
        ("http://shop.example?token=t", "http://shop.example?***"),
        ("me:pw@shop.example/p", "shop.example/p"),
        ("//me:pw@shop.example", "shop.example"),
        ("http://a@b@c/", "http://c/"),
        ("", ""),
    ],
)
def test_a_url_is_shown_by_its_place(url: str, shown: str) -> None:
    """User, password, query and fragment stay out of messages; that there was a query is told."""
    assert sanitised_url(url) == shown


@given(st.text())
def test_any_text_is_one_line(text: str) -> None:
    """Whatever a site or a submitter writes, it ends no line; plain text stays as it is, spelling out twice changes nothing."""
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line
    assert all(char.isprintable() or not char.isascii() for char in line)


def test_a_log_line_can_t_be_forged() -> None:
    """A reason with a line break is part of its own line, in both styles, and moves no terminal."""
    record = logging.makeLogRecord({"msg": "job %s", "args": (FORGED,), "levelname": "INFO", "reason": FORGED})
    for style in (TextLines(), JsonLines()):
        line = style.format(record)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line and "\x9b" not in line
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "\x1b" not in TextLines().format(record)


def test_the_command_line_shows_no_escape_sequences() -> None:
    """A record's own words are one line of a story, and no markup."""
    record = Record("t", 0, 0, 0, b"k", b"v", (("dead-letter-reason", FORGED.encode()),))
    told = Decoded(
        record, "step_result", {"action": "EXECUTE", "step": "parse", "seq": 1, "outcome": "FAILED", "reason": FORGED}
    )
    assert len(show.record_line(told).splitlines()) == 1
    assert "\x1b" not in show.record_line(told)
    assert show.escape("[red]\n") == "\\[red]\\u000a"
