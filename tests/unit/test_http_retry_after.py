"""Retry-After in both forms, and wrong ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.http.retry_after import LONGEST, retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sunday, 01-Mar-26 12:01:30 GMT", 90),
        ("Sun, 01 Mar 2026 13:01:30 +0100", 90),
        ("Sun Mar  1 12:01:30 2026", 90),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("9" * 400, LONGEST.total_seconds()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST.total_seconds()),
    ],
)
def test_both_forms_are_read(value: str, wait: float) -> None:
    """Seconds and dates give the wait; a date in the past gives none, absurd ones the longest."""
    assert retry_after({"retry-after": value}, NOW) == timedelta(seconds=wait)


@pytest.mark.parametrize("value", ["", "-5", "1.5", "soon", "²", "Sun, 99 Mar 2026 12:00:00 GMT"])
def test_wrong_values_say_nothing(value: str) -> None:
    """A header that can't be read is as if it weren't there."""
    assert retry_after({"retry-after": value}, NOW) is None


def test_a_date_is_read_against_the_servers_own_clock() -> None:
    """A server whose clock is an hour off still asks for 30 seconds."""
    headers = {"retry-after": "Sun, 01 Mar 2026 13:00:30 GMT", "date": "Sun, 01 Mar 2026 13:00:00 GMT"}
    assert retry_after(headers, NOW) == timedelta(seconds=30)


@given(st.text(), st.text())
def test_nothing_that_a_server_sends_raises(value: str, date: str) -> None:
    """Whatever the headers are, the answer is a wait within bounds or none."""
    wait = retry_after({"retry-after": value, "date": date}, NOW)
    assert wait is None or timedelta(0) <= wait <= LONGEST
