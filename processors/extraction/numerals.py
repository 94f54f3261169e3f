"""Numbers as people write them: every script's digits, each country's marks, 万 and 億, thousands and millions in words."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from babel import Locale, UnknownLocaleError

# All that shops put between groups of three digits for want of the right apostrophe.
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\u02b9\u2032\u00b4\u0060\uff07\u201b\u055a\ua78c"), "'")
_SPACES = dict.fromkeys(
    map(ord, "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"), " "
)
_MARKS = {
    0x066C: "'",
    0x066B: "\u066b",
    0x060C: ",",
    0xFF0C: ",",
    0xFF0E: ".",
    0x3001: ",",
    0xFE50: ",",
    0xFE52: ".",
    0xFF0F: "/",
}
_SIGNS = {0xFF04: "$", 0xFE69: "$", 0xFFE1: "£", 0xFF05: "%", 0x2212: "-", 0xFF0D: "-", 0xFF0B: "+"}
# Invisible marks of writing direction, which stand inside amounts on Arabic and Hebrew pages.
_UNSEEN = dict.fromkeys(
    (0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x202A, 0x202B, 0x202C, 0x2066, 0x2067, 0x2069, 0xFEFF, 0x00AD)
)
_TABLE = {**_APOSTROPHES, **_SPACES, **_MARKS, **_SIGNS, **_UNSEEN}

_MYRIADS = {"万": 10**4, "萬": 10**4, "만": 10**4, "億": 10**8, "亿": 10**8, "억": 10**8, "千": 10**3, "천": 10**3}
_SCALES = {
    **dict.fromkeys(("тыс", "тис", "k", "ribu", "rb", "nghìn", "ngàn", "hezar", "هزار", "ألف"), 10**3),
    **dict.fromkeys(
        ("млн", "mln", "mio", "million", "millionen", "juta", "jt", "triệu", "tr", "مليون", "میلیون"), 10**6
    ),
    **dict.fromkeys(("lakh", "lakhs", "lac", "lacs"), 10**5),
    **dict.fromkeys(("crore", "crores"), 10**7),
}
_DIGITS = r"(?:\d{1,3}(?: \d{3})+(?!\d)|\d+)(?:[.,'\u066b]\d+)*"
_SCALE = "|".join(sorted(_SCALES, key=len, reverse=True))
#: A number in text that `plain_digits` has been through, cents behind a space and a dash for no cents included.
NUMBER = (
    rf"(?:{_DIGITS}(?:\s?[{''.join(_MYRIADS)}](?:\s?{_DIGITS})?)+|{_DIGITS}\s?(?:{_SCALE})(?!\w)\.?|"
    rf"{_DIGITS}(?:[.,] \d\d(?!\d))?(?:[.,]\s?[-\u2013\u2014]+)?|(?<![\d.,])[.,]\d+)"
)
_SCALED = re.compile(rf"({_DIGITS})\s?({_SCALE})\.?", re.IGNORECASE)
_MYRIAD = re.compile(rf"({_DIGITS})\s?([{''.join(_MYRIADS)}])?")
_GROUPS = re.compile(r"\d{1,3}(?:\D\d{3})+(?:\D\d+)?|\d{1,3}(?:\D\d{2})*\D\d{3}(?:\D\d+)?")
# Domains of countries that sites everywhere use for the sound of their letters.
_NO_COUNTRIES = frozenset(("ai", "cc", "fm", "gg", "im", "io", "la", "me", "sh", "to", "tv", "ws"))


@dataclass(frozen=True, slots=True)
class Marks:
    """What may part whole numbers from decimals where the text stands (`decimal`), and thousands (`group`)."""

    decimal: frozenset[str] = frozenset()
    group: frozenset[str] = frozenset()


def plain_digits(text: str) -> str:
    """The text with ASCII digits, one kind of apostrophe and of space, ASCII marks; letters stay as they are."""
    if text.isascii():
        return " ".join(text.split())
    text = text.translate(_TABLE)
    if not text.isascii():
        text = "".join(
            [str(unicodedata.decimal(char)) if not char.isascii() and char.isdecimal() else char for char in text]
        )
    return " ".join(text.split())


@lru_cache(maxsize=256)
def marks_of(places: tuple[str, ...]) -> Marks:
    """The marks of these countries' domains and language tags, by the Unicode CLDR; nothing for unknown ones."""
    decimal, group = set(), set()
    for place in places:
        if (locale := _locale(place)) is not None:
            symbols = locale.number_symbols.get("latn", {})
            decimal.add(str(symbols.get("decimal", ".")))
            group.add(str(symbols.get("group", ",")).translate(_TABLE))
    return Marks(frozenset(decimal), frozenset(group))


def _locale(place: str) -> Locale | None:
    language, _, rest = place.replace("_", "-").partition("-")
    region = next((part for part in rest.split("-") if len(part) == 2), "")
    # A domain's last label and a language's tag look alike; a page's language comes with its region or is a language.
    for tag in (f"{language}_{region.upper()}" if region else "", f"und_{region.upper()}" if region else "", language):
        try:
            if tag:
                return Locale.parse(tag)
        except (UnknownLocaleError, ValueError, TypeError):
            continue
    return None


def country(label: str) -> str:
    """The language tag of a country's domain (`de` is `und-DE`), or nothing where the domain tells no country."""
    label = "gb" if label == "uk" else label
    return f"und-{label.upper()}" if len(label) == 2 and label.isalpha() and label not in _NO_COUNTRIES else ""


def read_number(text: str, marks: Marks, digits: int | None, decimal: str | None = None) -> Decimal | None:
    """The number that `NUMBER` matched, or None where it can be read in two ways and nothing says how.

    `digits` is how many decimals the currency has, None where it isn't known; `decimal` is the mark for certain.
    """
    text = re.sub(r"[.,]\s?[-\u2013\u2014]+$", "", text.strip())
    if scaled := _SCALED.fullmatch(text):
        amount = _one(scaled[1], marks, None, decimal or _single_mark(scaled[1]))
        return None if amount is None else amount * _SCALES[scaled[2].lower()]
    if any(char in text for char in _MYRIADS):
        return _myriads(text, marks, decimal)
    return _one(re.sub(r"([.,]) (\d\d)$", r"\1\2", text), marks, digits, decimal)


def _single_mark(text: str) -> str | None:
    # "12.500 mln" can't be thousands of millions: with a word for the scale a mark parts decimals.
    found = re.findall(r"[.,]", text)
    return found[0] if len(found) == 1 else None


def _myriads(text: str, marks: Marks, decimal: str | None) -> Decimal | None:
    total, section = Decimal(0), Decimal(0)
    for digits, unit in _MYRIAD.findall(text):
        amount = _one(digits, marks, None, decimal or (_single_mark(digits) if unit else None))
        if amount is None:
            return None
        section += amount * _MYRIADS.get(unit, 1) if unit in ("千", "천") else amount
        if unit and unit not in ("千", "천"):
            total, section = total + section * _MYRIADS[unit], Decimal(0)
    return total + section


def _one(text: str, marks: Marks, digits: int | None, decimal: str | None) -> Decimal | None:
    text = text.replace(" ", "'")
    if "\u066b" in text:
        return _joined(text, "\u066b")
    if decimal is not None:
        return _joined(text, decimal)
    kinds = {char for char in text if char in ".,'"}
    if not kinds:
        return Decimal(text)
    last = max(kinds, key=text.rfind)
    if text.count(last) > 1 or last == "'":
        return _joined(text, "") if _GROUPS.fullmatch(text) else None
    is_decimal = True if len(kinds) > 1 else _is_decimal(text, last, marks, digits)
    return None if is_decimal is None else _joined(text, last if is_decimal else "")


def _is_decimal(text: str, mark: str, marks: Marks, digits: int | None) -> bool | None:
    """Whether the only mark of the text parts decimals; None where both readings hold."""
    whole, _, rest = text.partition(mark)
    if len(rest) != 3 or len(whole) > 3 or whole.startswith("0") or not whole:
        return True
    parts, groups = mark in marks.decimal, mark in marks.group
    if digits == 3:
        # Dinars and rials have three decimals, which people write with a point whatever the page's language does.
        if parts != groups:
            return True if parts else None if mark == "." else False
        return True if mark == "." else None
    # "1.299" where a point parts decimals, in a currency of two: neither reading can be ruled out.
    return None if parts and not groups and digits != 0 else False


def _joined(text: str, decimal: str) -> Decimal | None:
    whole, _, rest = text.rpartition(decimal) if decimal and decimal in text else (text, "", "")
    whole, rest = (re.sub(r"\D", "", part) for part in (whole, rest))
    return Decimal(f"{whole or '0'}.{rest or '0'}" if rest else whole) if whole or rest else None
