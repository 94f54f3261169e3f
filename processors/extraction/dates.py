"""Dates in text as ISO 8601, the same on every run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from dateparser.date import DateDataParser
from dateparser.languages.loader import default_loader

# Not the middle of "3.4.2024".
_TIME_OF_DAY = re.compile(r"(?<![\d.])\d{1,2}[:.h]\d\d(?![\d.])|\d\s*[ap]\.?m\b|T\d\d", re.IGNORECASE)
_LONGEST = 120


def known_languages() -> frozenset[str]:
    """The language codes in which dates can be read."""
    return frozenset(default_loader.get_locale_map())


def known_locale(tag: str) -> bool:
    """Whether dates can be read as this language of this region, such as `en-GB`."""
    try:
        default_loader.get_locale_map(locales=[tag])
    except ValueError:
        return False
    return True


def read_date(
    text: str, *, languages: Sequence[str], locale: str | None, date_order: str | None, now: datetime | None
) -> str | None:
    """The date that the text means, or None: `2024-05-06`, with the time (and offset, if told) if the text has one.

    Day, month and year must all be there: nothing is filled in from today. "3 days ago" is read only if `now` is
    given, and from it.
    """
    text = " ".join(text.split())
    if not text or len(text) > _LONGEST:
        return None
    try:
        exact = datetime.fromisoformat(text)
    except ValueError:
        return _in_words(text, languages, locale, date_order, now)
    return _iso(exact, text)


def _in_words(
    text: str, languages: Sequence[str], locale: str | None, date_order: str | None, now: datetime | None
) -> str | None:
    parser = _parser(() if locale else tuple(languages), locale, date_order, now)
    try:
        moment = parser.get_date_data(text).date_obj
    except Exception:
        # dateparser is known to leak ValueError, OverflowError, TypeError, re.error for odd text; all mean "no date".
        return None
    return None if moment is None else _iso(moment, text)


@lru_cache(maxsize=32)
def _parser(
    languages: tuple[str, ...], locale: str | None, date_order: str | None, now: datetime | None
) -> DateDataParser:
    settings: dict[str, object] = {
        "PARSERS": ["absolute-time"] if now is None else ["relative-time", "absolute-time"],
        "REQUIRE_PARTS": ["day", "month", "year"],
        # Never shows in a result, since all parts are required, but dateparser would ask the machine's clock instead.
        "RELATIVE_BASE": (now or datetime(2000, 1, 1)).replace(tzinfo=None),
        "TIMEZONE": "UTC",
    }
    if date_order:
        settings["DATE_ORDER"] = date_order
    return DateDataParser(
        languages=list(languages) or None,
        locales=[locale] if locale else None,
        use_given_order=bool(languages),
        settings=settings,
    )


def _iso(moment: datetime, text: str) -> str:
    if moment.tzinfo is None and (moment.hour, moment.minute) == (0, 0) and not _TIME_OF_DAY.search(text):
        return moment.date().isoformat()
    return moment.isoformat(timespec="seconds")
