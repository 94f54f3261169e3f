"""The brand of a product, on pages that do not declare it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from processors.extraction.page import Page
from processors.extraction.product_words import AROUND_BRAND, BRAND_LABEL
from processors.extraction.regions import is_aside
from processors.extraction.scripted import keys
from processors.extraction.stated import stated
from processors.extraction.text import text_of
from processors.extraction.values import Raw

_NAMED = re.compile(r"brand|byline|manufacturer")
_SCRIPTED = keys(
    ("brand", "Brand", "manufacturer"),
    r"(?:_?[Nn]ame)?",
    r"""(?:\{[^{}]{0,80}?\\?["']name\\?["']\s*:\s*)?\\?["']([^"'\\{}<>]{2,40})\\?["']""",
)
_LONGEST = 60
_MOST = 80
# A name of more words in an element called "brand" is a slogan, unless the title has it.
_MOST_WORDS = 3
# How many pieces of text around the heading an unlabelled brand may be away from it.
_NEAR = 30
_PLACEHOLDERS = frozenset(
    ("null", "undefined", "none", "n/a", "na", "brand", "no brand", "unknown", "other", "default")
)


def brands(page: Page) -> Iterator[Raw]:
    """Texts that may be the brand: first what the page's title has too, then what is labelled, then what is near it."""
    labelled = [text for text in stated(page, BRAND_LABEL, page.heading_place) if tidy_brand(text)]
    elements = list(_elements(page))
    scripted = list(islice(_SCRIPTED.values(page), _MOST))
    title = page.titles.casefold()
    for text in (*labelled, *(text for text, _ in elements), *scripted):
        if (name := tidy_brand(text)) and re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", title):
            yield Raw(text)
    yield from map(Raw, labelled)
    for text, place in elements:
        if abs(place - page.heading_place) <= _NEAR and len(text.split()) <= _MOST_WORDS:
            yield Raw(text)


def _elements(page: Page) -> Iterator[tuple[str, int]]:
    for element in islice(page.named(_NAMED), _MOST):
        text = text_of(element, _LONGEST) or next((inner.get("alt", "") for inner in element.iter("img")), "")
        if text and len(text) <= _LONGEST and not is_aside(element):
            yield text, page.place_of(element)


def tidy_brand(text: str) -> str | None:
    """The name alone, or None for placeholders, sentences and addresses."""
    name = " ".join(AROUND_BRAND.sub("", text).split()).strip(" :|-\u2013\u200e\u200f")
    if not name or len(name) > _LONGEST or name.isdigit() or name.casefold() in _PLACEHOLDERS:
        return None
    return None if re.search(r"[{}<>$]|://|\.(?:com|net|org)\b|[.!?] \w", name) else name
