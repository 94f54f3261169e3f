"""The Retry-After header, in both of its forms (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: A server that asks for years means "never": the saga's own deadline ends it long before.
LONGEST = timedelta(days=7)
#: A date has 29 characters.
_LONGEST_VALUE = 100


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how long a server asks to wait, never negative; None if it doesn't say or says it wrongly.

    A date is read against the server's own Date header where there is one, so that a clock that is off on either
    side neither shortens nor stretches the wait.
    """
    value = headers.get("retry-after", "").strip()[:_LONGEST_VALUE]
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:12]), LONGEST.total_seconds()))
    until = _date(value)
    if until is None:
        return None
    return min(max(until - (_date(headers.get("date", "")[:_LONGEST_VALUE]) or now), timedelta(0)), LONGEST)


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
        return date.astimezone(UTC) if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        # An offset of a million hours, or one that leads out of the calendar.
        return None
