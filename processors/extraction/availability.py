"""Words about stock, in many languages, as names of schema.org's ItemAvailability."""

from __future__ import annotations

import re
from functools import lru_cache

from processors.extraction.numerals import plain_digits
from processors.extraction.stock_words import (
    ABOUT_OTHER,
    BACK_ORDER,
    BUY,
    DISCONTINUED,
    IN_STOCK,
    LATER,
    LIMITED,
    NEGATED,
    NONE_LEFT,
    OUT_OF_STOCK,
    PRE_ORDER,
    SURELY_IN_STOCK,
    TOLD_LATER,
)

_NAMES = {
    name.lower(): name
    for name in (
        *("BackOrder", "Discontinued", "InStock", "InStoreOnly", "LimitedAvailability", "MadeToOrder", "OnlineOnly"),
        *("OutOfStock", "PreOrder", "PreSale", "Reserved", "SoldOut"),
    )
}
_NAMES |= {"available": "InStock", "availableforpreorder": "PreOrder", "oos": "OutOfStock"}
_NAMES |= {"unavailable": "OutOfStock", "notavailable": "OutOfStock", "notinstock": "OutOfStock"}
_NAMES |= {"yes": "InStock", "true": "InStock", "no": "OutOfStock", "false": "OutOfStock"}

_LONGEST = 400
# A template that a script has yet to fill in says every state at once.
_TEMPLATE = re.compile(r"\{\{|\}\}|<%|\$\{|\{%|__\w+__")


def read_availability(text: str) -> str | None:
    """The schema.org name that the text means, such as InStock, or None.

    Takes `http://schema.org/InStock`, `in_stock`, `instock`, or a shop's own words in the usual languages.
    """
    # Only an address ends in the name; "In stock / Out of stock" is a legend of both.
    token = re.split(r"[/#]", text.strip().rstrip("/"))[-1] if len(text.split()) == 1 else text
    return _NAMES.get(re.sub(r"[\s_-]", "", token).lower()) or stock_in_words(text)


# A shop says the same on all of its pages.
@lru_cache(maxsize=4096)
def stock_in_words(text: str) -> str | None:
    """The schema.org name that a shop's own words mean, or None where they say nothing of the product or both.

    "Image unavailable" is not about the product, "Email me when it is in stock" promises nothing, "In stock: 0" and
    "no longer in stock" are a lack.
    """
    text = plain_digits(text[:_LONGEST])
    if _TEMPLATE.search(text) or ABOUT_OTHER.search(text):
        return None
    text = TOLD_LATER.sub(" ", text)
    lack = _lack(text)
    if lack is not None:
        name, rest = lack
        # A legend of all states, or "sold out online, in stock in our shops": it says both.
        return None if SURELY_IN_STOCK.search(rest) else name
    for name, words in (
        ("PreOrder", PRE_ORDER),
        ("BackOrder", BACK_ORDER),
        ("LimitedAvailability", LIMITED),
        ("InStock", IN_STOCK),
        ("InStock", BUY),
    ):
        if words.search(text):
            return name
    return None


def _lack(text: str) -> tuple[str, str] | None:
    for name, words in (
        ("Discontinued", DISCONTINUED),
        ("OutOfStock", OUT_OF_STOCK),
        ("OutOfStock", NEGATED),
        ("OutOfStock", NONE_LEFT),
        ("OutOfStock", LATER),
    ):
        if words.search(text):
            return name, words.sub(" ", text)
    return None


def lack_in_words(text: str) -> bool:
    """Whether a shop's own words say that the product cannot be had."""
    return stock_in_words(text) in ("Discontinued", "OutOfStock")
