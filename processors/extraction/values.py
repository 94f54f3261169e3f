"""Text read as a field's type, giving JSON-able values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from price_parser.parser import parse_number

from processors.extraction.availability import read_availability
from processors.extraction.dates import known_languages, known_locale, read_date
from processors.extraction.money import PriceContext, read_money
from processors.extraction.numerals import country
from processors.extraction.page import Page

_NUMBER = re.compile(r"(?<![\w.,])[-+\u2212]?(?:\d[\d.,'\u2019\u00a0\u202f ]*\d|\d|[.,]\d+)")
_GROUPED_DOTS = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d{1,2})?", re.ASCII)
_TRUE = frozenset(
    (
        *("true", "yes", "y", "1", "on", "ja", "oui", "si", "sí", "sim", "да", "tak"),
        *("ano", "igen", "da", "evet", "はい", "是", "✓", "✔", "instock"),
    )
)
_FALSE = frozenset(
    (
        *("false", "no", "n", "0", "off", "nein", "non", "não", "nao", "нет", "nie", "ne"),
        *("nem", "hayir", "いいえ", "否", "✗", "✘", "outofstock"),
    )
)
# JavaScript's and JSON readers' exact integers end here; a longer number is an identifier, to be taken as text.
_MOST = Decimal(2**53)


class Type(StrEnum):
    """What a field's text is read as."""

    TEXT = "text"
    MONEY = "money"
    NUMBER = "number"
    INTEGER = "integer"
    DATE = "date"
    BOOL = "bool"
    URL = "url"
    LIST = "list"
    AVAILABILITY = "availability"


@dataclass(frozen=True, slots=True)
class Raw:
    """Text found on a page. `structured`: from JSON-LD, microdata or meta; `currency`: declared beside it there.

    `source` names what it was found by, `sure` says how likely it is what the field means, from 0 to 1. `value` is
    given where the text stands for something that has been read already.
    """

    text: str
    structured: bool = False
    currency: str = ""
    source: str = ""
    sure: float = 1.0
    value: object = None


@dataclass(frozen=True, slots=True)
class Hints:
    """What a pipeline's author knows about a field's text and a page may not tell."""

    currency: str | None = None
    decimal: str | None = None
    locale: str | None = None
    languages: tuple[str, ...] = ()
    date_order: str | None = None


def read(kind: Type, raw: Raw, hints: Hints, page: Page, now: datetime | None) -> object | None:
    """The value, or None if the text cannot be read as that type."""
    match kind:
        case Type.TEXT | Type.LIST:
            return " ".join(raw.text.split()) or None
        case Type.MONEY:
            return _money(raw, hints, page)
        case Type.NUMBER:
            number = _number(raw, hints)
            return None if number is None else (int(number) if number == int(number) else float(number))
        case Type.INTEGER:
            number = _number(raw, hints)
            return int(number) if number is not None and number == int(number) else None
        case Type.DATE:
            return _date(raw.text, hints, page, now)
        case Type.BOOL:
            word = raw.text.strip().lower().rsplit("/", 1)[-1]
            return True if word in _TRUE else False if word in _FALSE else None
        case Type.URL:
            return _url(raw.text, page)
        case Type.AVAILABILITY:
            return read_availability(raw.text)
        case _:
            assert_never(kind)


def page_languages(page: Page) -> tuple[str, ...]:
    """The page's own language, if dates can be read in it, then English."""
    language = page.language.partition("-")[0]
    return (language, "en") if language != "en" and language in known_languages() else ("en",)


def _date(text: str, hints: Hints, page: Page, now: datetime | None) -> str | None:
    languages = hints.languages or page_languages(page)
    # "03/04/2024" is the third of April in Britain and the fourth of March in the United States.
    region = None if hints.languages or hints.locale or hints.date_order else page_locale(page)
    for locale in dict.fromkeys((hints.locale or region, hints.locale)):
        if found := read_date(text, languages=languages, locale=locale, date_order=hints.date_order, now=now):
            return found
    return None


def page_locale(page: Page) -> str | None:
    """The page's language with its region, or with that of its domain, if dates can be read by it."""
    language, _, rest = page.language.partition("-")
    regions = (next((part for part in rest.split("-") if len(part) == 2), ""), country(page.top_level_domain)[4:])
    region = next(filter(None, regions), "").upper()
    tag = f"{language}-{region}"
    return tag if language.isalpha() and region and known_locale(tag) else None


def setting_of(page: Page, hints: Hints) -> PriceContext:
    """What decides about the page's amounts where their text is ambiguous."""
    return page.once(lambda page: _setting(page, hints), key=hints)


def _setting(page: Page, hints: Hints) -> PriceContext:
    near = tuple(code for code in (hints.currency, page.currency) if code)
    places = (page.top_level_domain, page.language)
    return PriceContext(near, places, hints.decimal, hints.currency or page.currency, page.languages)


def _money(raw: Raw, hints: Hints, page: Page) -> object | None:
    setting = setting_of(page, hints)
    money = read_money(raw.text, setting, structured=raw.structured, symbol=raw.currency)
    return None if money is None else money.to_json()


def _number(raw: Raw, hints: Hints) -> Decimal | None:
    text = raw.text.strip()[:300]
    if raw.structured and _GROUPED_DOTS.fullmatch(text):
        number: Decimal | None = Decimal(text)
    else:
        match = _NUMBER.search(text)
        if match is None:
            return None
        negative = match[0][0] in "-\u2212"
        number = parse_number(match[0].lstrip("-+\u2212"), hints.decimal)
        number = -number if number is not None and negative else number
    return number if number is not None and abs(number) <= _MOST else None


def _url(text: str, page: Page) -> str | None:
    link = text.strip()
    absolute = page.resolved(page.base, link)
    return absolute if link and re.match(r"https?://[^\s/]", absolute, re.IGNORECASE) else None
