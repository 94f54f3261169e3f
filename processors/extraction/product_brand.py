"""The brand of a product, on pages that do not declare it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from processors.extraction import names
from processors.extraction.heading import without_site
from processors.extraction.jsonld import plain
from processors.extraction.offers import products
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, is_doubted, kind_of
from processors.extraction.product_words import AROUND_BRAND, BRAND_LABEL
from processors.extraction.regions import is_aside
from processors.extraction.scripted import keys
from processors.extraction.stated import stated
from processors.extraction.text import text_of
from processors.extraction.values import Raw

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
    """Texts that may be the brand: declared, then what the page's title has too, what is labelled, what is near it."""
    titles = page.titles
    for text, source, sure in _declared(page):
        name = tidy_brand(without_site(text, page.address.hostname or "", _site(page)))
        if name:
            yield Raw(name, source=source, sure=sure)
    if kind_of(page) is Kind.OTHER or is_doubted(page):
        return
    labelled = [text for text in stated(page, BRAND_LABEL, page.heading_place) if tidy_brand(text)]
    elements = list(_elements(page))
    scripted = list(islice(_SCRIPTED.values(page), _MOST))
    for source, texts in (("label", labelled), ("shown", [text for text, _ in elements]), ("script", scripted)):
        for text in texts:
            if (name := tidy_brand(text)) and (spelled := _in_title(name, titles)):
                yield Raw(
                    spelled if source == "script" else name, source=source, sure=0.85 if source == "label" else 0.65
                )
    yield from (Raw(text, source="label", sure=0.75) for text in labelled)
    for text, place in elements:
        if abs(place - page.heading_place) <= _NEAR and len(text.split()) <= _MOST_WORDS:
            yield Raw(text, source="shown", sure=0.6)


def _declared(page: Page) -> Iterator[tuple[str, str, float]]:
    for name, sure in (("brand", 0.93), ("manufacturer", 0.8)):
        for source, node in products(page):
            if text := (plain(node.get(name)) or "").strip():
                yield text, source, sure
    for name in ("product:brand", "og:brand"):
        for text in page.meta.get(name, ())[:1]:
            yield text, "meta", 0.85


def _site(page: Page) -> str:
    return next(iter(page.meta.get("og:site_name", ())), "")


def _in_title(name: str, titles: str) -> str | None:
    """The name as the title spells it, whatever the marks between its words; None if the title doesn't have it."""
    words = re.findall(r"\w+", name)
    if not words:
        return None
    joined = r"[^\w]{0,3}".join(map(re.escape, words))
    found = re.search(rf"(?<!\w){joined}(?!\w)", titles, re.IGNORECASE)
    return found[0] if found else None


def _elements(page: Page) -> Iterator[tuple[str, int]]:
    for element in islice(page.named(names.BRAND), _MOST):
        text = text_of(element, _LONGEST) or next((inner.get("alt", "") for inner in element.iter("img")), "")
        if text and len(text) <= _LONGEST and not is_aside(element, page.around_heading):
            yield text, page.place_of(element)


def tidy_brand(text: str) -> str | None:
    """The name alone, or None for placeholders, sentences and addresses."""
    name = " ".join(AROUND_BRAND.sub("", text).split()).strip(" :|-\u2013\u200e\u200f")
    if (
        not name
        or not re.search(r"\w", name)
        or len(name) > _LONGEST
        or name.isdigit()
        or name.casefold() in _PLACEHOLDERS
    ):
        return None
    return None if re.search(r"[{}<>$]|://|\.(?:com|net|org)\b|[.!?] \w", name) else name
