"""Whether the product can be bought, on pages that do not declare it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from lxml import etree

from processors.extraction.availability import lack_in_words, stock_in_words
from processors.extraction.page import Page
from processors.extraction.product_words import BUY_TEXT
from processors.extraction.regions import is_aside
from processors.extraction.scripted import keys
from processors.extraction.text import text_of
from processors.extraction.values import Raw

_DECLARED = etree.XPath("descendant::*/@*[(name() = 'href' or name() = 'content') and contains(., 'schema.org/')]")
_SCHEMA = re.compile(r"schema\.org/(?:In|Out|Sold|Pre|Back|Limited|Disc)\w+\s*$")
_NAMED = re.compile(r"availab|stock|inventory|disponib|verfueg|lager|skladom|dostupn|sold-?out")
_BUTTONS = etree.XPath(
    "descendant::*[self::button or self::input[@type='submit' or @type='button' or @type='image'] or "
    "self::a[@class or @id] or self::form[@action]]"
)
_BUY_NAME = re.compile(
    r"add[-_]?(?:to)?[-_]?(?:cart|basket|bag|trolley)|buy[-_]?(?:now|button|box)?$|cart/add|checkout/cart|tocart|"
    r"in-?den-?warenkorb",
    re.IGNORECASE,
)
_BUTTON_NAMES = ("id", "class", "name", "action", "data-action", "data-testid")
_SCRIPTED = keys(
    ("vailability", "inStock", "in_stock", "InStock", "stockStatus", "stock_status"),
    "(?:_?[Ss]tatus)?",
    r"""\\?["']?([\w:/.\- ]{2,40})""",
)
_GONE = frozenset(("OutOfStock", "SoldOut", "Discontinued"))
_LONGEST = 120
_NEAR = 150
_MOST = 300


def stock(page: Page) -> Iterator[Raw]:
    """Texts about availability, the most trustworthy first."""
    for value in _DECLARED(page.root):
        if _SCHEMA.search(str(value)):
            yield Raw(str(value))
    yield from page.once(_named)
    yield from islice(page.once(_lacks), 1)
    if _buyable(page):
        yield Raw("InStock")
    yield from map(Raw, _SCRIPTED.values(page))


def is_gone(page: Page) -> bool:
    """Whether the page's own words say that the product cannot be had."""
    said = next((name for raw in page.once(_named) if (name := stock_in_words(raw.text))), None)
    return said in _GONE or (said is None and next(iter(page.once(_lacks)), None) is not None)


def _named(page: Page) -> Iterator[Raw]:
    for element in islice(page.named(_NAMED), _MOST):
        text = text_of(element, _LONGEST)
        if text and len(text) <= _LONGEST and stock_in_words(text) and not is_aside(element):
            yield Raw(text)


def _lacks(page: Page) -> Iterator[Raw]:
    """Short texts soon after the heading that say that the product cannot be had."""
    for shown in page.texts[page.heading_place : page.heading_place + _NEAR]:
        is_short = len(shown.text) <= _LONGEST and shown.element.tag not in ("option", "a", "label")
        if is_short and lack_in_words(shown.text) and not is_aside(shown.element):
            yield Raw(shown.text)


def _buyable(page: Page) -> bool:
    return any(
        _is_buy(element) and not is_aside(element) for element in _BUTTONS(page.root) if element.get("disabled") is None
    )


def _is_buy(element: etree._Element) -> bool:
    names = " ".join(filter(None, map(element.get, _BUTTON_NAMES)))
    if any(map(_BUY_NAME.search, names.split())):
        return True
    return element.tag != "form" and BUY_TEXT.match(element.get("value") or text_of(element, _LONGEST)) is not None
