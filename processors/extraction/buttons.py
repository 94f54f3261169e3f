"""Buttons that put the page's own product into the basket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from lxml import etree

from processors.extraction.cards import in_cards
from processors.extraction.heading import is_hidden
from processors.extraction.page import Page
from processors.extraction.product_words import BUY_TEXT
from processors.extraction.regions import is_aside
from processors.extraction.text import text_of

_INPUTS = frozenset(("submit", "button", "image"))
_BUY_NAME = re.compile(
    r"add[-_]?(?:to)?[-_]?(?:cart|basket|bag|trolley)|buy[-_]?(?:now|button|box)?(?=\s|$)|cart/add|checkout/cart|tocart|"
    r"in-?den-?warenkorb",
    re.IGNORECASE,
)
_BUTTON_NAME = re.compile(r"btn|button|cart|buy|basket|add|order|kauf|cta|knapp|koszyk|kosik", re.IGNORECASE)
_NAMES = ("id", "class", "name", "action", "data-action", "data-testid")
_OFF = re.compile(r"\b(?:disabled|inactive|sold-?out|out-?of-?stock|unavailable|notify)\b", re.IGNORECASE)
_LONGEST = 120
_MOST = 3000


def buy_buttons(page: Page) -> list[etree._Element]:
    """The buttons that work, are in view, and do not stand in one of several cards alike."""
    found = [element for element in islice(_buttons(page), _MOST) if _is_buy(element) and _works(element)]
    cards = in_cards(found)
    return [
        element
        for element in found
        if element not in cards and not is_aside(element, page.around_heading) and not is_hidden(element)
    ]


def _buttons(page: Page) -> Iterator[etree._Element]:
    for element in page.root.iter("button", "input", "a", "form"):
        match element.tag:
            case "input":
                is_one = element.get("type") in _INPUTS
            case "a":
                is_one = element.get("class") is not None or element.get("id") is not None
            case "form":
                is_one = element.get("action") is not None
            case _:
                is_one = True
        if is_one:
            yield element


def _works(element: etree._Element) -> bool:
    if element.get("disabled") is not None or element.get("aria-disabled") == "true":
        return False
    return _OFF.search(element.get("class", "")) is None


def _is_buy(element: etree._Element) -> bool:
    names = " ".join([value for name in _NAMES if (value := element.get(name))])
    if _is_buy_name(names):
        return True
    # Most links are of menus; one that is drawn as a button says so.
    if element.tag == "form" or (element.tag == "a" and not _is_button_name(names)):
        return False
    return BUY_TEXT.match(element.get("value") or text_of(element, _LONGEST)) is not None


@lru_cache(maxsize=4096)
def _is_buy_name(names: str) -> bool:
    return _BUY_NAME.search(names) is not None


@lru_cache(maxsize=4096)
def _is_button_name(names: str) -> bool:
    return _BUTTON_NAME.search(names) is not None
