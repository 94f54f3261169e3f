"""The price on pages that declare none: by the names of elements, their place, the company they keep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lxml import etree

from processors.extraction.money import AT_CURRENCY
from processors.extraction.page import Page
from processors.extraction.regions import is_aside, names_of
from processors.extraction.scripted import keys
from processors.extraction.text import text_of
from processors.extraction.values import Raw

_NAMED = re.compile(r"price|preis|prix|precio|prezzo|preco|cena|amount|cijena|hind|kaina")
_DATA = etree.XPath("//body/descendant::*/@*[starts-with(name(), 'data-') and contains(name(), 'price')]")
_FOR_SALE = re.compile(
    r"our|sale|final|current|actual|special|new|now|buy|main|product|detail|big|aktu|action|akcni", re.IGNORECASE
)
_NOT_THIS = re.compile(
    r"old|was\b|list|regular|strike|crossed|before|rrp|msrp|uvp|sav(?:e|ing)|discount|per-|unit|ship|deliver|install|"
    r"month|monat|tax|\bmin|\bmax|range|filter|cart|basket|total|crowd|history|compare|bid|credit|loan|points|label|"
    r"wrapper|container|bonus|coupon|quantity|tier|lowest|note|info",
    re.IGNORECASE,
)
_STRUCK = frozenset(("del", "s", "strike"))
_SCRIPTED = keys(("price", "Price"), "", r"""\\?["']?(\d{1,7}(?:\.\d{1,4})?)(?![\w.])""", bare=True)
_SEVERAL = re.compile(r"\d[\d.,\s]*")
_ZERO = re.compile(r"0*(?:[.,]0*)?")
_LONGEST = 60
_MOST = 400
# Below this a named element is no better than any amount with a currency right under the heading.
_CERTAIN = 3.5
# How many pieces of text after the heading still belong to it, on pages without telling names.
_NEAR = 60
# Ancestors whose names still speak of the element itself.
_OWN_LEVELS = 2


@dataclass(frozen=True, slots=True)
class _Candidate:
    text: str
    score: float


def prices(page: Page) -> Iterator[Raw]:
    """Texts that may be the price, the likeliest first."""
    for candidate in sorted(_named(page), key=lambda candidate: -candidate.score):
        if candidate.score >= _CERTAIN:
            yield Raw(candidate.text)
    yield from _after_heading(page)
    for value in _DATA(page.root)[:1]:
        yield Raw(str(value), structured=True)
    for amount in _SCRIPTED.values(page):
        yield Raw(amount, structured=True)


def tidy_price(text: str) -> str | None:
    """The text, or None for a zero, which shops declare while a script has yet to fill in the price."""
    return None if _ZERO.fullmatch(text.strip()) else text


def _named(page: Page) -> list[_Candidate]:
    found: list[tuple[str, etree._Element]] = []
    for element in islice(page.named(_NAMED), _MOST):
        text = element.get("content") or text_of(element, _LONGEST)
        if len(text) <= _LONGEST and any(map(str.isdigit, text)):
            found.append((text, element))
    seen = Counter(_digits(text) for text, _ in found)
    return [
        # The price of the page is repeated in the basket, the sticky bar, the variant list.
        _Candidate(text, _score(page, text, element) + 0.3 * min(seen[_digits(text)], 4))
        for text, element in found
    ]


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _score(page: Page, text: str, element: etree._Element) -> float:
    """How likely the text is the price; weights were set on labelled pages, none decides alone."""
    name = names_of(element)
    above = [parent for _, parent in zip(range(_OWN_LEVELS), element.iterancestors(), strict=False)]
    distance = page.place_of(element) - page.heading_place
    score = 1.0
    score += 2.0 if AT_CURRENCY.search(text) else 0.0
    score += 1.5 if _FOR_SALE.search(name) else 0.0
    score += 3.0 if element.get("itemprop") == "price" else 0.0
    # Just below the heading is where a reader looks; above it are menus, baskets and offers of the day.
    score += 2.5 / (1 + distance / 30) if distance >= 0 else -1.0
    score -= 1.5 if len(_SEVERAL.findall(text)) > 2 else 0.0
    score -= 2.0 if "%" in text else 0.0
    score -= 2.5 if _NOT_THIS.search(name) else 0.0
    score -= 2.0 * sum(_NOT_THIS.search(names_of(parent)) is not None for parent in above)
    score -= 5.0 if _STRUCK & {element.tag, *(parent.tag for parent in above)} else 0.0
    return score - (2.5 if is_aside(element) else 0.0)


def _after_heading(page: Page) -> Iterator[Raw]:
    """Short texts with an amount and a currency below the heading, the nearest first."""
    texts = page.texts
    for at in range(page.heading_place, min(page.heading_place + _NEAR, len(texts))):
        shown = texts[at]
        if len(shown.text) > _LONGEST or shown.element.tag in _STRUCK or not any(map(str.isdigit, shown.text)):
            continue
        # The sign often stands in an element of its own, on either side.
        sides = [text if len(text) <= 4 else "" for text in (_text(page, at - 1), _text(page, at + 1))]
        around = f"{sides[0]} {shown.text} {sides[1]}"
        if AT_CURRENCY.search(around) and not is_aside(shown.element):
            yield Raw(around)


def _text(page: Page, at: int) -> str:
    return page.texts[at].text if 0 <= at < len(page.texts) else ""
