"""What one gets of product pages with extruct and price-parser alone: the first declared value of each attribute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from price_parser import Price

_SYNTAXES = ["json-ld", "microdata", "opengraph"]


def extruct_reader() -> Callable[[str, str], Mapping[str, Any]]:
    """A reader of pages; raises SystemExit where extruct isn't installed."""
    try:
        import extruct
    except ImportError as error:
        raise SystemExit("extruct isn't installed; it comes with the extra `dev`") from error

    def read(html: str, url: str) -> Mapping[str, Any]:
        try:
            data = extruct.extract(html, base_url=url, syntaxes=_SYNTAXES, uniform=True)
        except Exception:
            # Broken JSON-LD ends it: then it has found nothing.
            return {}
        product = next((node for name in _SYNTAXES for node in _nodes(data[name]) if _is_product(node)), {})
        offer = next(iter(_nodes(product.get("offers"))), {})
        values: dict[str, Any] = {name: product.get(name) for name in ("sku", "name")}
        brand = product.get("brand")
        values["brand"] = brand.get("name") if isinstance(brand, dict) else brand
        values["gtin"] = product.get("gtin13") or product.get("gtin")
        values["availability"] = str(offer["availability"]).rsplit("/", 1)[-1] if offer.get("availability") else None
        declared = offer.get("price") or offer.get("lowPrice")
        price = Price.fromstring(str(declared)) if declared is not None else None
        if price is not None and price.amount is not None:
            values["price"] = {"amount": format(price.amount, "f"), "currency": offer.get("priceCurrency")}
        return {name: value for name, value in values.items() if isinstance(value, (str, dict)) and value}

    return read


def _is_product(node: Mapping[str, Any]) -> bool:
    kind = node.get("@type")
    return "Product" in (kind if isinstance(kind, list) else [kind])


def _nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)
    elif isinstance(value, dict):
        yield value
        yield from _nodes(value.get("@graph"))
