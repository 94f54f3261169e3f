"""The preset `product`: where product pages in general keep their facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from processors.extraction.money import PriceContext, read_money
from processors.extraction.page import Page
from processors.extraction.product_brand import brands, tidy_brand
from processors.extraction.product_codes import gtins, skus, tidy_gtin, tidy_sku
from processors.extraction.product_price import prices, tidy_price
from processors.extraction.product_stock import is_gone, stock
from processors.extraction.values import Raw

_OFFER = "Product.offers"

#: The preset's fields, named as in the bundled record `product`, in the form that a pipeline would write them.
FIELDS: Mapping[str, Mapping[str, object]] = {
    "title": {
        "jsonld": "Product.name",
        "microdata": "Product.name",
        "meta": ["og:title", "twitter:title"],
        "css": ["h1", "title"],
    },
    "price": {
        "type": "money",
        "required": False,
        "jsonld": [f"{_OFFER}.price", f"{_OFFER}.priceSpecification.price", f"{_OFFER}.lowPrice", "Offer.price"],
        "microdata": [f"{_OFFER}.price", f"{_OFFER}.lowPrice", "Offer.price", "Product.price"],
        "meta": ["product:price:amount", "og:price:amount", "product:sale_price:amount"],
    },
    "availability": {
        "type": "availability",
        "required": False,
        "jsonld": [f"{_OFFER}.availability", "Offer.availability"],
        "microdata": [f"{_OFFER}.availability", "Offer.availability", "Product.availability"],
        "meta": ["product:availability", "og:availability"],
    },
    "sku": {
        "required": False,
        "jsonld": ["Product.sku", f"{_OFFER}.sku", "Product.productID"],
        "microdata": ["Product.sku", f"{_OFFER}.sku", "Product.productID"],
        "meta": ["product:retailer_item_id", "product:sku"],
    },
    "brand": {
        "required": False,
        "jsonld": ["Product.brand", "Product.manufacturer"],
        "microdata": ["Product.brand", "Product.manufacturer"],
        "meta": ["product:brand", "og:brand"],
    },
    "gtin": {
        "required": False,
        "jsonld": [
            "Product.gtin13",
            "Product.gtin",
            "Product.gtin14",
            "Product.gtin12",
            "Product.gtin8",
            f"{_OFFER}.gtin13",
            f"{_OFFER}.gtin",
            "Product.isbn",
        ],
        "microdata": ["Product.gtin13", "Product.gtin", "Product.gtin14", "Product.gtin12", "Product.gtin8"],
        "meta": ["product:ean", "product:upc", "product:isbn"],
    },
    "description": {
        "required": False,
        "jsonld": "Product.description",
        "microdata": "Product.description",
        "meta": ["og:description", "description"],
    },
    "images": {
        "type": "list",
        "items": "url",
        "required": False,
        "jsonld": "Product.image",
        "microdata": "Product.image",
        "meta": ["og:image", "twitter:image"],
    },
}


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What the preset knows of a field beyond selectors: where else to look, and how its text is made tidy."""

    guess: Callable[[Page], Iterator[Raw]] | None = None
    tidy: Callable[[str], str | None] | None = None


def _price_if_sold(page: Page) -> Iterator[Raw]:
    """No guess where the product is gone: amounts on such a page are those of other products."""
    if not is_gone(page):
        yield from page.once(prices)


def _stock_or_price(page: Page) -> Iterator[Raw]:
    """Last, a page that asks a price and nowhere says that the product is gone offers it for sale."""
    yield from stock(page)
    declared = (Raw(text, structured=True) for text in page.meta.get("product:price:amount", ()))
    if any(
        read_money(raw.text, PriceContext(), structured=raw.structured) for raw in (*declared, *_price_if_sold(page))
    ):
        yield Raw("InStock")


#: By the preset's field.
RULES: Mapping[str, FieldRule] = {
    "price": FieldRule(guess=_price_if_sold, tidy=tidy_price),
    "availability": FieldRule(guess=_stock_or_price),
    "sku": FieldRule(guess=skus, tidy=tidy_sku),
    "brand": FieldRule(guess=brands, tidy=tidy_brand),
    "gtin": FieldRule(guess=gtins, tidy=tidy_gtin),
}
