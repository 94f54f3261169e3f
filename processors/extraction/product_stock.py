"""Whether the product can be bought: as declared, checked against what the page says; then what it only says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from lxml import etree

from processors.extraction import names
from processors.extraction.amounts import AT_CURRENCY
from processors.extraction.availability import lack_in_words, read_availability, stock_in_words
from processors.extraction.buttons import buy_buttons
from processors.extraction.cards import in_cards
from processors.extraction.heading import is_hidden
from processors.extraction.numerals import plain_digits
from processors.extraction.offers import states
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, kind_of, may_guess
from processors.extraction.regions import is_aside, names_of
from processors.extraction.scripted import keys
from processors.extraction.stock_words import STOCK_ALERT
from processors.extraction.text import text_of
from processors.extraction.values import Raw

# A choice of sizes, a badge on a picture, a way of delivery: not the product.
_CHOICE = re.compile(
    r"swatch|option|size|variant|badge|label-?img|flag|filter|store-?(?:stock|avail)|pickup|delivery", re.I
)
_SCRIPTED = keys(
    ("vailability", "inStock", "in_stock", "InStock", "stockStatus", "stock_status"),
    "(?:_?[Ss]tatus)?",
    r"""\\?["']?([\w:/.\- ]{2,40})""",
)
#: States in which nobody can buy.
GONE = frozenset(("OutOfStock", "SoldOut", "Discontinued"))
_LONGEST = 120
# A line of its own; a longer text speaks of the product in passing.
_LONGEST_LACK = 80
_NEAR = 150
_NEAR_BUTTON, _LONGEST_BUTTON = 100, 40
_MOST = 300


def stock(page: Page) -> Iterator[Raw]:
    """Texts about availability, the surest first."""
    declared = [(text, source, name) for text, source, _ in states(page) if (name := read_availability(text))]
    if declared:
        # Any variant that can be had makes the product one that can be had.
        text, source, name = next((row for row in declared if row[2] not in GONE), declared[0])
        if name not in GONE and _is_surely_gone(page):
            yield Raw("OutOfStock", source="shown", sure=0.75)
        yield Raw(text, structured=True, source=source, sure=0.95)
        return
    if kind_of(page) is Kind.OTHER:
        return
    if named := page.once(_named):
        yield Raw(named[0], source="shown", sure=0.8)
    if may_guess(page) and (lack := page.once(_lack)):
        yield Raw(lack, source="text", sure=0.7)
    if page.once(buy_buttons):
        yield Raw("InStock", source="button", sure=0.75)
    if may_guess(page):
        yield from (Raw(text, source="script", sure=0.5) for text in islice(_SCRIPTED.values(page), _MOST))


def is_gone(page: Page) -> bool:
    """Whether the page's own words say that the product cannot be had."""
    named = page.once(_named)
    said = stock_in_words(named[0]) if named else None
    return said in GONE or (said is None and page.once(_lack) is not None)


def tells_later(page: Page) -> bool:
    """Whether the page offers to tell when there is stock: then a price does not say that there is."""
    start = max(0, page.heading_place - 3)
    near = page.texts[start : start + _NEAR]
    return any(len(shown.text) <= _LONGEST and STOCK_ALERT.search(plain_digits(shown.text)) for shown in near)


def _is_surely_gone(page: Page) -> bool:
    """Whether the page says so where it says it of its product: in a place named for stock, or on the button itself."""
    named = page.once(_named)
    if named:
        return stock_in_words(named[0]) in GONE
    near = page.texts[page.heading_place : page.heading_place + _NEAR_BUTTON]
    said = any(
        _is_on_button(shown.element) and lack_in_words(shown.text) and not is_aside(shown.element, page.around_heading)
        for shown in near
        if len(shown.text) <= _LONGEST_BUTTON
    )
    return said and not page.once(buy_buttons)


def _is_on_button(element: etree._Element) -> bool:
    return any(each.tag in ("button", "input") for each in (element, *islice(element.iterancestors(), 2)))


def _named(page: Page) -> list[str]:
    found: list[tuple[str, etree._Element]] = []
    for element in islice(page.named(names.STOCK), _MOST):
        text = text_of(element, _LONGEST)
        is_short = 0 < len(text) <= _LONGEST and element.tag not in ("option", "select", "label", "input")
        if is_short and stock_in_words(text) and not AT_CURRENCY.search(text) and not _is_other(page, element):
            found.append((text, element))
    # Offers of other sellers, sizes, shops: each has its own.
    cards = in_cards(element for _, element in found)
    return [text for text, element in found if element not in cards]


def _is_other(page: Page, element: etree._Element) -> bool:
    above = " ".join(names_of(each) for each in islice(element.iterancestors(), 2))
    return (
        is_aside(element, page.around_heading)
        or is_hidden(element)
        or _CHOICE.search(f"{names_of(element)} {above}") is not None
    )


def _lack(page: Page) -> str | None:
    """A short text soon after the heading that says that the product cannot be had."""
    for shown in page.texts[page.heading_place : page.heading_place + _NEAR]:
        is_short = len(shown.text) <= _LONGEST_LACK and shown.element.tag not in ("option", "a", "label")
        if (
            is_short
            and lack_in_words(shown.text)
            and not is_aside(shown.element, page.around_heading)
            and not is_hidden(shown.element)
        ):
            return shown.text
    return None
