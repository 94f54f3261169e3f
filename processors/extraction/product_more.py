"""What else a product's page tells: its rating, how many reviews, its variants, the path of categories to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import islice

from processors.extraction import names
from processors.extraction.availability import read_availability
from processors.extraction.jsonld import Node, plain, types_of
from processors.extraction.money import read_money
from processors.extraction.offers import current_of, offers, products
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, kind_of
from processors.extraction.regions import is_aside
from processors.extraction.subject import plain_words
from processors.extraction.text import text_of
from processors.extraction.values import Hints, Raw, setting_of

_STARS = re.compile(
    r"(?<![\d.,])([0-5](?:[.,]\d{1,2})?)\s*(?:out of|of|von|sur|de|di|van|z|ze|av|af|/|из|з)\s*5(?![\d.,])",
    re.IGNORECASE,
)
_REVIEWS = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:[., ]\d{3})*|\d+)\s*(?:customer |verified |product |global )?"
    r"(?:reviews?|ratings?|bewertung|rezension|kundenmeinung|avis|évaluation|opinion|reseña|valoracion|recension|avaliaç|opini|ocen|hodnocen|hodnoten|"
    r"отзыв|оцен|відгук|vélemény|értékelés|beoordeling|omdöme|anmeldelse|arvostelu|レビュー|件|评价|評價|리뷰)",
    re.IGNORECASE,
)
_LONGEST, _MOST, _MOST_VARIANTS = 80, 60, 200


def ratings(page: Page) -> Iterator[Raw]:
    """The average rating, from 0 to 5."""
    for source, rating in _aggregates(page):
        if (value := _number(rating.get("ratingValue"))) is not None:
            best = _number(rating.get("bestRating")) or Decimal(5)
            if 0 < value <= best:
                stars = (value * 5 / best).quantize(Decimal("0.01")).normalize()
                yield Raw(format(stars, "f"), structured=True, source=source, sure=0.93)
    yield from (Raw(match[1].replace(",", "."), source="shown", sure=0.6) for match in _shown(page, _STARS))


def reviews(page: Page) -> Iterator[Raw]:
    """How many have rated or reviewed the product."""
    for source, rating in _aggregates(page):
        for name in ("reviewCount", "ratingCount"):
            if (value := _number(rating.get(name))) is not None:
                yield Raw(f"{value:f}", structured=True, source=source, sure=0.93)
    yield from (Raw(re.sub(r"\D", "", match[1]), source="shown", sure=0.6) for match in _shown(page, _REVIEWS))


def _aggregates(page: Page) -> Iterator[tuple[str, Node]]:
    for source, node in products(page):
        rating = node.get("aggregateRating")
        for each in rating if isinstance(rating, list) else [rating]:
            if isinstance(each, Mapping):
                yield source, each


def _number(value: object) -> Decimal | None:
    try:
        number = Decimal((plain(value) or "").strip().replace(",", "."))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _shown(page: Page, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    if kind_of(page) is not Kind.PRODUCT:
        return
    for element in islice(page.named(names.RATED), _MOST):
        if is_aside(element, page.around_heading):
            continue
        for text in (element.get("aria-label"), element.get("title"), text_of(element, _LONGEST)):
            if text and len(text) <= _LONGEST and (match := pattern.search(text)):
                yield match


def variants(page: Page) -> Iterator[Raw]:
    """Each variant that structured data declares, with its number, name, price and availability."""
    seen: set[str] = set()
    for source, node, offer in islice(_variants(page), _MOST_VARIANTS):
        value = _variant(page, node, offer)
        key = repr(value)
        if key not in seen and (value["sku"] or value["name"]):
            seen.add(key)
            yield Raw(value["sku"] or value["name"] or "", structured=True, source=source, sure=0.9, value=value)


def _variants(page: Page) -> Iterator[tuple[str, Node, Node | None]]:
    declared = [
        (source, variant)
        for source, node in products(page)
        for name in ("hasVariant", "model")
        for variant in _nodes(node.get(name))
    ]
    if declared:
        for source, variant in declared:
            yield source, variant, next(iter(_nodes(variant.get("offers"))), None)
        return
    # Many shops declare an offer for each variant instead; offers of one thing by several sellers have no number each.
    own = [(source, offer) for source, offer in offers(page) if plain(offer.get("sku"))]
    if len({plain(offer.get("sku")) for _, offer in own}) > 1:
        yield from ((source, offer, offer) for source, offer in own)


def _nodes(value: object) -> Iterator[Node]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Mapping):
            yield item


def _variant(page: Page, node: Node, offer: Node | None) -> dict[str, str | None]:
    declared = next(current_of(offer, "jsonld", 0), None) if offer else None
    setting = setting_of(page, Hints())
    money = read_money(declared.text, setting, structured=True, symbol=declared.currency) if declared else None
    return {
        "sku": (plain(node.get("sku")) or plain(node.get("productID"))),
        "name": plain(node.get("name")),
        "price": format(money.amount, "f") if money else None,
        "availability": read_availability(plain(offer.get("availability")) or "") if offer else None,
    }


def breadcrumbs(page: Page) -> Iterator[Raw]:
    """The names of the categories that lead to the product, the widest first, without the product itself."""
    heading = "" if page.h1 is None else text_of(page.h1)
    for source, crumbs in _trails(page):
        trail = [name for name in crumbs if name and plain_words(name) and plain_words(name) != plain_words(heading)]
        if trail:
            yield from (
                Raw(name, structured=True, source=source, sure=0.93 if source != "shown" else 0.7) for name in trail
            )
            return


def _trails(page: Page) -> Iterator[tuple[str, list[str]]]:
    for source, nodes in (("jsonld", page.jsonld), ("microdata", page.microdata)):
        for node in nodes:
            if "BreadcrumbList" in types_of(node):
                steps = sorted(enumerate(_nodes(node.get("itemListElement"))), key=lambda pair: _position(*pair))
                yield source, [_name(step) for _, step in steps[:_MOST]]
    for element in islice(page.named(names.CRUMBS), 3):
        links = [text_of(link, _LONGEST) for link in islice(element.iter("a"), _MOST)]
        yield "shown", [text for text in links if len(text) <= _LONGEST]


def _position(at: int, step: Node) -> tuple[Decimal, int]:
    return _number(step.get("position")) or Decimal(at), at


def _name(step: Node) -> str:
    item = step.get("item")
    name = plain(step.get("name")) or (plain(item.get("name")) if isinstance(item, Mapping) else None)
    return " ".join((name or "").split())
