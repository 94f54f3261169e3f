"""What a page's own structured data declares of its offers: what one buyer pays now, what it was, whether there is stock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from processors.extraction.jsonld import KINDS, Node, plain, types_of
from processors.extraction.page import Page

_PRODUCT = KINDS["Product"]
_OFFER = KINDS["Offer"]
# Prices that one would have paid, or that others pay.
_FORMER = ("listprice", "strikethrough", "msrp", "srp", "regularprice", "suggestedretail", "originalprice")
_NOT_PAID = ("invoiceprice", "minimumadvertised")
# Codes of UN/CEFACT for one piece: a price for one of these is the price.
_PIECES = frozenset(("", "C62", "H87", "EA", "PCE", "NMP", "ST", "UNIT", "PIECE"))
_MOST = 300
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Declared:
    """A price that structured data or <meta> declares, with where from; `offer` says of which offer, by its place."""

    text: str
    currency: str
    source: str
    offer: int
    available: str = ""


def products(page: Page) -> list[tuple[str, Node]]:
    """The nodes that describe the page's own product, JSON-LD before microdata, with the name of their source."""
    return page.once(_products)


def _products(page: Page) -> list[tuple[str, Node]]:
    return [
        (source, node)
        for source, nodes in (("jsonld", page.own_jsonld), ("microdata", page.own_microdata))
        for node in nodes
        if types_of(node) & _PRODUCT
    ]


def offers(page: Page) -> list[tuple[str, Node]]:
    """The offers of the page's own product, nested and of variants too; offers of no product where it has none."""
    return page.once(_offers)


def _offers(page: Page) -> list[tuple[str, Node]]:
    seen: set[int] = set()
    found = [(source, offer) for source, node in products(page)[:_MOST] for offer in _flat(node.get("offers"), seen)]
    if not found:
        found = [
            (source, node)
            for source, nodes in (("jsonld", page.own_jsonld), ("microdata", page.own_microdata))
            for node in nodes
            if types_of(node) & _OFFER
        ]
    return found[:_MOST]


def _flat(value: object, seen: set[int]) -> Iterator[Node]:
    """The offers in the value and in those of an AggregateOffer, each once: offers may lead to each other in circles."""
    pending = [(value, 0)]
    while pending:
        current, depth = pending.pop()
        if depth > _MAX_DEPTH or len(seen) > _MOST:
            return
        if isinstance(current, list):
            pending.extend((item, depth + 1) for item in reversed(current[:_MOST]))
        elif isinstance(current, Mapping) and id(current) not in seen:
            seen.add(id(current))
            yield current
            pending.append((current.get("offers"), depth + 1))


def current_prices(page: Page) -> Iterator[Declared]:
    """What one buyer pays now, by each offer and by <meta>, in the order of the page."""
    for at, (source, offer) in enumerate(offers(page)):
        yield from current_of(offer, source, at)
    for source, node in products(page):
        # Microdata often puts the price on the product itself.
        if "offers" not in node and (text := _amount(node.get("price"))):
            yield Declared(text, _currency(node), source, -1)
    currency = next(
        (code for name in ("product:price:currency", "og:price:currency") for code in page.meta.get(name, ())), ""
    )
    for name in ("product:sale_price:amount", "product:price:amount", "og:price:amount", "twitter:data1"):
        for content in page.meta.get(name, ())[:2]:
            if content and (name != "twitter:data1" or _labelled_price(page)):
                yield Declared(content, currency, "meta", -1)


def _labelled_price(page: Page) -> bool:
    return any("price" in label.casefold() for label in page.meta.get("twitter:label1", ()))


def regular_prices(page: Page) -> Iterator[Declared]:
    """What one would have paid: list prices, prices that are struck through, <meta> of the original price."""
    for at, (source, offer) in enumerate(offers(page)):
        for specification in _specifications(offer):
            if _kind(specification) == "former" and (text := _amount(specification.get("price"))):
                yield Declared(text, _currency(specification) or _currency(offer), source, at)
    for name in ("product:original_price:amount", "og:price:standard_amount"):
        for content in page.meta.get(name, ())[:1]:
            yield Declared(content, "", "meta", -1)


def current_of(offer: Node, source: str, at: int) -> Iterator[Declared]:
    """What one buyer pays now by one offer."""
    available = plain(offer.get("availability")) or ""
    specifications = list(_specifications(offer))
    kinds = {_kind(specification) for specification in specifications}
    texts = [_amount(offer.get(name)) for name in ("price", "lowPrice")]
    if text := next(filter(None, texts), ""):
        yield Declared(text, _currency(offer), source, at, available)
    for specification in specifications:
        kind = _kind(specification)
        # A list price is taken only where the offer names no other.
        if kind == "current" and (
            text := _amount(specification.get("price")) or _amount(specification.get("minPrice"))
        ):
            yield Declared(text, _currency(specification) or _currency(offer), source, at, available)
    if "price" not in offer and "lowPrice" not in offer and kinds == {"former"}:
        for specification in specifications:
            if text := _amount(specification.get("price")):
                yield Declared(text, _currency(specification) or _currency(offer), source, at, available)


def _specifications(offer: Node) -> Iterator[Node]:
    yield from islice(_flat_only(offer.get("priceSpecification")), 20)


def _flat_only(value: object) -> Iterable[Node]:
    values = value if isinstance(value, list) else [value]
    return (item for item in values if isinstance(item, Mapping))


def _kind(specification: Node) -> str:
    """What the price of a priceSpecification is: "current", "former", or "other" (a litre's, a month's, of many)."""
    told = (plain(specification.get("priceType")) or "").casefold()
    if any(name in told for name in _FORMER):
        return "former"
    if any(name in told for name in _NOT_PAID) or "validForMemberTier" in specification:
        return "other"
    if any(name in specification for name in ("billingDuration", "billingIncrement", "eligibleTransactionVolume")):
        return "other"
    quantity = specification.get("referenceQuantity")
    if isinstance(quantity, Mapping):
        unit = (plain(quantity.get("unitCode")) or plain(quantity.get("unitText")) or "").upper()
        return "current" if unit in _PIECES and (plain(quantity.get("value")) or "1") in ("1", "1.0") else "other"
    if (plain(specification.get("unitCode")) or "").upper() not in _PIECES:
        return "other"
    least = specification.get("eligibleQuantity")
    if isinstance(least, Mapping) and (plain(least.get("minValue")) or "1") not in ("1", "1.0", "0"):
        return "other"
    types = types_of(specification)
    return "other" if types & {"DeliveryChargeSpecification", "PaymentChargeSpecification"} else "current"


def _amount(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    return next(
        (text for item in values[:5] if not isinstance(item, bool) and (text := (plain(item) or "").strip())), ""
    )


def _currency(node: Node) -> str:
    return plain(node.get("priceCurrency") or node.get("currency")) or ""


def states(page: Page) -> Iterator[tuple[str, str, bool]]:
    """Availabilities as declared, with their source; the last says whether it stands outside the product's offers."""
    for source, offer in offers(page):
        if text := plain(offer.get("availability")):
            yield text, source, False
    for source, node in products(page):
        if text := plain(node.get("availability")):
            yield text, source, False
    for name in ("product:availability", "og:availability"):
        for content in page.meta.get(name, ())[:1]:
            yield content, "meta", True
