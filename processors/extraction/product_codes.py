"""The shop's number and the global trade number of a product, on pages that do not declare them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from urllib.parse import parse_qsl, unquote

from lxml import etree

from processors.extraction import jsonld, names
from processors.extraction.offers import offers, products
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, kind_of, may_guess
from processors.extraction.product_words import GTIN_LABEL, OWN_NUMBER_LABEL, SKU_LABEL
from processors.extraction.regions import is_aside, names_of
from processors.extraction.scripted import keys
from processors.extraction.stated import stated, stated_at
from processors.extraction.text import text_of
from processors.extraction.values import Raw

_CODE = re.compile(r"(?=\S*\d)[A-Za-z0-9][\w./-]{1,29}(?![\w])")
_FIELDS = etree.XPath(
    "//body/descendant::*[@data-sku or @data-product-sku or @data-product-code or @data-article-number or @data-item-number]"
)
_DATA_NAMES = ("data-product-code", "data-sku", "data-product-sku", "data-article-number", "data-item-number")
_INPUT_NAMES = ("asin", "sku")
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
# What makes the number before it an amount, a discount or a measure.
_IS_AMOUNT = re.compile(
    r"\s?(?:[€$£¥₽₹₩%]|(?:eur|usd|gbp|zł|kč|kr|руб|ml|cl|cm|mm|kg|gr?|l|m|inch|zoll|pcs|off|gb|tb|mah|watt|w|v|hz)\b)",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"(?:x{0,4}[sml]|x{0,3}l|\d{1,3}\s?(?:cm|mm|ml|cl|l|kg|g|gb|tb)|one size|\d{1,2}[.,]\d)", re.IGNORECASE
)
_COUPON = re.compile(r"coupon|promo|voucher|gutschein|discount|rabatt|swatch|review|comment", re.IGNORECASE)
_PLACEHOLDERS = frozenset(
    ("null", "undefined", "none", "n/a", "na", "sku", "false", "true", "nan", "default", "0", "00")
)
# How many pieces of text before and after the heading belong to it.
_ABOVE, _BELOW = 8, 100
_ID_KEYS = re.compile(r"sku|variant|pid|product_?id|item|article|^id$", re.I)
_LONGEST = 60
_MOST = 50
# Numbers in an address that are looked for on the page, and places in which each is met.
_MOST_TOKENS = 12
_MOST_PLACES = 2_000
_BEFORE, _AFTER = "\"'>:=-", "\"'<,;&"
_BOOKLAND = ("978", "979")


def skus(page: Page) -> Iterator[Raw]:
    """Texts that may be the shop's number: what stands beside its label under the heading, then what is declared."""
    declared = list(_declared(page))
    near = page.once(_near)
    same = next((code for code in near if any(_plain(code) == _plain(raw.text) for raw in declared)), None)
    if same is not None:
        yield Raw(same, source="label", sure=0.97)
    if near and not any(_is_trade_number(raw.text) and _is_trade_number(near[0]) for raw in declared):
        yield Raw(
            near[0], source="label", sure=0.9 if kind_of(page) is Kind.PRODUCT else 0.6 if may_guess(page) else 0.4
        )
    for raw in declared:
        yield from _without_variant(page, raw)
    if kind_of(page) is Kind.OTHER:
        return
    certain = kind_of(page) is Kind.PRODUCT
    for code, _ in _shown(page):
        yield Raw(code, source="label", sure=0.75 if certain else 0.5 if may_guess(page) else 0.3)
    if not may_guess(page):
        return
    for field in page.root.iter("input"):
        if field.get("name", "").lower() in _INPUT_NAMES and (value := field.get("value")) is not None:
            yield Raw(value, source="form", sure=0.75)
    for element in islice(page.named(names.CODE), _MOST):
        text = element.get("content") or text_of(element, _LONGEST)
        if (
            len(text) <= _LONGEST
            and (codes := _codes(text))
            and not is_aside(element, page.around_heading)
            and not _is_coupon(element)
        ):
            yield Raw(codes[-1], source="shown", sure=0.65)
    for element in _FIELDS(page.root)[:3] if any(map(page.mentions, _DATA_NAMES)) else ():
        yield from (Raw(value, source="attribute", sure=0.65) for name in _DATA_NAMES if (value := element.get(name)))
    yield from (Raw(value, source="script", sure=0.55) for value in islice(_SKU_SCRIPTED.values(page), _MOST))
    yield from (Raw(value, source="address", sure=0.5) for value in _in_address(page))


def _declared(page: Page) -> Iterator[Raw]:
    for source, node in products(page):
        for name in ("sku", "productID"):
            if text := jsonld.plain(node.get(name)):
                yield Raw(text.removeprefix("sku:"), structured=True, source=source, sure=0.92)
    for source, offer in offers(page):
        if text := jsonld.plain(offer.get("sku")):
            yield Raw(text, structured=True, source=source, sure=0.85)
    for name in ("product:retailer_item_id", "product:sku"):
        for content in page.meta.get(name, ())[:2]:
            yield Raw(content, structured=True, source="meta", sure=0.8)


def _near(page: Page) -> list[str]:
    """The codes beside labels that belong to the heading."""
    start, stop = max(0, page.heading_place - _ABOVE), page.heading_place + _BELOW + 1
    return [code for code, place in _shown(page, start, stop) if start <= place < stop]


def _shown(page: Page, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, int]]:
    """The codes beside labels, with their places: what means nothing but the shop's number first."""
    for label in (OWN_NUMBER_LABEL, SKU_LABEL):
        for value, place in stated_at(page, label, start, stop):
            code = _CODE.match(value)
            if (
                code
                and not _IS_AMOUNT.match(value, code.end())
                and not is_aside(page.texts[place].element, page.around_heading)
            ):
                yield code[0], place
    for element in islice(page.named(names.SKU), 5):
        if element.get("itemprop") == "sku" and (codes := _codes(text_of(element, _LONGEST))):
            yield codes[-1], page.place_of(element)


def _codes(text: str) -> list[str]:
    return [match[0] for match in _CODE.finditer(text) if not _IS_AMOUNT.match(text, match.end())]


def _is_coupon(element: etree._Element) -> bool:
    return any(_COUPON.search(names_of(each)) for each in (element, *islice(element.iterancestors(), 2)))


def _plain(code: str) -> str:
    return re.sub(r"[\W_]", "", code).casefold()


def _without_variant(page: Page, raw: Raw) -> Iterator[Raw]:
    """The number of the product rather than of one of its variants, where the address has it; last the given one."""
    code = raw.text.strip()
    for part in re.findall(r"[^/?=&]+", unquote(page.address.path)[-200:]):
        for token in re.findall(r"[A-Za-z0-9]{5,20}", part):
            rest = code[len(token) :]
            if (
                code.startswith(token)
                and re.fullmatch(r"[-_./][A-Za-z0-9]{1,4}", rest)
                and any(map(str.isdigit, token))
            ):
                yield replace(raw, text=token)
    if _is_trade_number(code) and code not in page.address.path:
        # A trade number in the place of the shop's own, which the address has.
        yield from (Raw(token, source="address", sure=0.6) for token in islice(_in_address(page), 1))
    yield raw


def _is_trade_number(code: str) -> bool:
    digits = tidy_gtin(code)
    return digits is not None and len(digits) >= 12


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
    """The number alone, or None for what is a name, an amount or a placeholder rather than a number."""
    code = text.strip().strip(".,;:#").strip()
    if not 1 < len(code) <= 50 or re.search(r"\s[^\W\d_]{4,}|[<>{}$€£¥%|]|https?:", code):
        return None
    if code.casefold() in _PLACEHOLDERS or not any(map(str.isalnum, code)) or _SIZE.fullmatch(code):
        return None
    return code


def gtins(page: Page) -> Iterator[Raw]:
    """Texts that may be a trade number: labelled, in scripts, or a book's number given as the shop's own."""
    yield from (Raw(text, source="label", sure=0.85) for text in stated(page, GTIN_LABEL))
    if may_guess(page):
        yield from (Raw(text, source="script", sure=0.6) for text in islice(_GTIN_SCRIPTED.values(page), _MOST))
    own = [
        jsonld.plain(found.value) or ""
        for found in jsonld.follow("Product.sku", (*page.own_jsonld, *page.own_microdata))
    ]
    for code in (*own, *page.meta.get("product:retailer_item_id", ())):
        if code.startswith(_BOOKLAND):
            yield Raw(code, source="sku", sure=0.8)


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
