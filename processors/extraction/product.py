"""The preset `product`: where product pages in general keep their facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from processors.extraction.page import Page
from processors.extraction.product_brand import brands, tidy_brand
from processors.extraction.product_codes import gtins, skus, tidy_gtin, tidy_sku
from processors.extraction.product_images import images
from processors.extraction.product_more import breadcrumbs, ratings, reviews, variants
from processors.extraction.product_price import is_offered, prices, regular
from processors.extraction.product_stock import is_gone, stock, tells_later
from processors.extraction.product_title import titles
from processors.extraction.values import Raw

_OFFER = "Product.offers"

#: The preset's fields, named as in the bundled record `product`, in the form that a pipeline would write them.
FIELDS: Mapping[str, Mapping[str, object]] = {
    "title": {},
    "price": {
        "type": "money",
        "required": False,
    },
    "availability": {
        "type": "availability",
        "required": False,
    },
    "sku": {
        "required": False,
    },
    "brand": {"required": False},
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
    "images": {"type": "list", "items": "url", "required": False},
    "regular_price": {"type": "money", "required": False},
    "rating": {"type": "number", "required": False},
    "reviews": {"type": "integer", "required": False},
    "variants": {"type": "list", "required": False},
    "breadcrumbs": {"type": "list", "required": False},
}


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What the preset knows of a field beyond selectors: where else to look, and how its text is made tidy."""

    guess: Callable[[Page], Iterator[Raw]] | None = None
    tidy: Callable[[str], str | None] | None = None


def _stock_or_price(page: Page) -> Iterator[Raw]:
    """Last, a page that asks a price and nowhere says that the product is gone offers it for sale."""
    yield from stock(page)
    if is_offered(page) and not is_gone(page) and not tells_later(page):
        yield Raw("InStock", source="price", sure=0.5)


#: By the preset's field.
RULES: Mapping[str, FieldRule] = {
    "title": FieldRule(guess=titles),
    "price": FieldRule(guess=prices),
    "availability": FieldRule(guess=_stock_or_price),
    "sku": FieldRule(guess=skus, tidy=tidy_sku),
    "brand": FieldRule(guess=brands, tidy=tidy_brand),
    "gtin": FieldRule(guess=gtins, tidy=tidy_gtin),
    "images": FieldRule(guess=images),
    "regular_price": FieldRule(guess=regular),
    "rating": FieldRule(guess=ratings),
    "reviews": FieldRule(guess=reviews),
    "variants": FieldRule(guess=variants),
    "breadcrumbs": FieldRule(guess=breadcrumbs),
}
