"""The preset `product`: where product pages in general keep their facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from processors.extraction.page import Page
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

#: Rules of thumb, asked where the page declares nothing.
RULES: Mapping[str, Callable[[Page], Iterator[Raw]]] = {}
