"""The shop's number and the global trade number of a product, on pages that do not declare them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import parse_qsl, unquote

from lxml import etree

from processors.extraction import jsonld
from processors.extraction.page import Page
from processors.extraction.product_words import GTIN_LABEL, OWN_NUMBER_LABEL, SKU_LABEL
from processors.extraction.regions import is_aside
from processors.extraction.scripted import keys
from processors.extraction.stated import stated
from processors.extraction.text import text_of
from processors.extraction.values import Raw

_CODE = re.compile(r"(?=\S*\d)[A-Za-z0-9][\w./-]{1,29}(?![\w])")
_FIELDS = etree.XPath(
    "//body/descendant::*[@data-sku or @data-product-sku or @data-product-code or @data-article-number or @data-item-number]"
)
_DATA_NAMES = ("data-product-code", "data-sku", "data-product-sku", "data-article-number", "data-item-number")
_NAMED = re.compile(r"sku|(?:product|article|item|cat)[-_]?(?:code|n(?:o\b|r|um))|artnr")
_INPUTS = etree.XPath(
    "//input[@value][translate(@name, 'ASINKU', 'asinku') = 'asin' or translate(@name, 'SKU', 'sku') = 'sku']/@value"
)
_SKU_SCRIPTED = keys(("sku", "SKU", "Sku"), "", r"""\\?["']([^"'\\]{2,30})\\?["']""")
_GTIN_SCRIPTED = keys(
    ("gtin", "GTIN", '"ean', "EAN", "upc", "UPC", "isbn", "ISBN", "arcode"),
    "(?:8|1[0-4]|s)?",
    r"""\[?\s*\\?["']?(\d{8,14})\b""",
)
# Digits, also behind a letter or two as in "p400105394" and "c7200a278526196", or capitals with digits.
_URL_TOKEN = re.compile(
    r"(?<![^\W_])(?:[a-z]{0,2}|[a-z]\d{1,5}[a-z])(\d{5,20})(?![^\W_])|"
    r"(?<![^\W_])(?=[A-Z0-9]*\d)(?=[A-Z0-9]*[A-Z])([A-Z0-9]{8,16})(?![^\W_])"
)
_ID_KEYS = re.compile(r"sku|variant|pid|product_?id|item|article|^id$", re.I)
_LONGEST = 60
_MOST = 50
# Numbers in an address that are looked for on the page, and places in which each is met.
_MOST_TOKENS = 12
_MOST_PLACES = 2_000
_BEFORE, _AFTER = "\"'>:=", "\"'<,;&"
_BOOKLAND = ("978", "979")


def skus(page: Page) -> Iterator[Raw]:
    """Texts that may be the shop's number: labelled, in telling elements, in scripts, last in the address."""
    for label, start in ((OWN_NUMBER_LABEL, 0), (SKU_LABEL, page.heading_place), (SKU_LABEL, 0)):
        for value in stated(page, label, start):
            if code := _CODE.match(value):
                yield Raw(code[0])
    for value in _INPUTS(page.root):
        yield Raw(str(value))
    for element in islice(page.named(_NAMED), _MOST):
        text = element.get("content") or text_of(element, _LONGEST)
        if len(text) <= _LONGEST and (codes := _CODE.findall(text)) and not is_aside(element):
            yield Raw(codes[-1])
    for element in _FIELDS(page.root)[:3]:
        yield from (Raw(value) for name in _DATA_NAMES if (value := element.get(name)))
    yield from map(Raw, _SKU_SCRIPTED.values(page))
    yield from map(Raw, _in_address(page))


def _in_address(page: Page) -> Iterator[str]:
    """Numbers in the address that the page itself also names as a value of their own."""
    address = page.address
    values = [value for key, value in parse_qsl(address.query) if _ID_KEYS.search(key)]
    segments = [unquote(segment) for segment in address.path.split("/")[::-1] if segment]
    parts = (*values[:_MOST], *segments[:3])
    tokens = (match[1] or match[2] for part in parts for match in reversed(list(_URL_TOKEN.finditer(part))))
    for token in islice(dict.fromkeys(tokens), _MOST_TOKENS):
        if _stands_alone(token, page.html):
            yield token


def _stands_alone(token: str, html: str) -> bool:
    """Whether the page has the token as a value of its own."""
    at = html.find(token)
    for _ in range(_MOST_PLACES):
        if at < 0:
            return False
        end = at + len(token)
        if (at == 0 or html[at - 1] in _BEFORE or html[at - 1].isspace()) and (
            html[end : end + 1] in _AFTER or html[end : end + 1].isspace()
        ):
            return end < len(html)
        at = html.find(token, end)
    return False


def tidy_sku(text: str) -> str | None:
    """The number alone, or None for what is a name rather than a number."""
    code = text.strip().strip(".,;:#").strip()
    if not 1 < len(code) <= 50 or re.search(r"\s[^\W\d_]{4,}|[<>{}$|]|https?:", code):
        return None
    return code


def gtins(page: Page) -> Iterator[Raw]:
    """Texts that may be a trade number: labelled, in scripts, or a book's number given as the shop's own."""
    yield from map(Raw, stated(page, GTIN_LABEL))
    yield from map(Raw, _GTIN_SCRIPTED.values(page))
    own = [jsonld.plain(found.value) or "" for found in jsonld.follow("Product.sku", (*page.jsonld, *page.microdata))]
    for code in (*own, *page.meta.get("product:retailer_item_id", ())):
        if code.startswith(_BOOKLAND):
            yield Raw(code)


def tidy_gtin(text: str) -> str | None:
    """The digits of a number that passes its own check digit (GTIN-8, 12, 13, 14, ISBN-10), or None."""
    match = re.match(r"\D{0,12}?(\d[\d\s-]{6,18}[\dXx])(?!\d)", text.strip())
    code = re.sub(r"[\s-]", "", match[1]).upper() if match else ""
    if len(code) == 10:
        return code if _isbn10(code) else None
    if len(code) not in (8, 12, 13, 14) or not code.isdigit() or not int(code):
        return None
    total = sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(reversed(code)))
    return code if total % 10 == 0 else None


def _isbn10(code: str) -> bool:
    if not re.fullmatch(r"\d{9}[\dX]", code):
        return False
    return sum((10 - at) * (10 if digit == "X" else int(digit)) for at, digit in enumerate(code)) % 11 == 0
