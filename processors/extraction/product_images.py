"""Pictures of the page's product: declared, and in its gallery, lazily loaded ones by the address that is loaded in the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice

from lxml import etree

from processors.extraction import names
from processors.extraction.images import image_address
from processors.extraction.offers import products
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, kind_of
from processors.extraction.regions import is_aside
from processors.extraction.values import Raw

_NOT_PRODUCT = re.compile(
    r"logo|icon|sprite|badge|flag|avatar|rating|star|payment|banner|pixel|blank|spacer|placeholder", re.IGNORECASE
)
_MOST = 40


def images(page: Page) -> Iterator[Raw]:
    """Addresses of pictures, the main one first."""
    declared = [
        (text, source) for source, node in products(page) for text in islice(_addresses(node.get("image")), _MOST)
    ]
    if declared:
        yield from (Raw(text, structured=True, source=source, sure=0.93) for text, source in declared)
        return
    for name in ("og:image", "og:image:secure_url", "twitter:image"):
        if contents := page.meta.get(name):
            yield from (Raw(content, structured=True, source="meta", sure=0.8) for content in contents[:_MOST])
            return
    if kind_of(page) is Kind.OTHER:
        return
    seen: set[etree._Element] = set()
    for gallery in islice(page.named(names.GALLERY), _MOST):
        if is_aside(gallery, page.around_heading):
            continue
        for element in islice(gallery.iter("img"), _MOST):
            if element not in seen and (address := image_address(element)) and not _NOT_PRODUCT.search(address):
                seen.add(element)
                yield Raw(address, source="shown", sure=0.7)


def _addresses(value: object, depth: int = 0) -> Iterator[str]:
    if depth > 4:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _addresses(item, depth + 1)
    elif isinstance(value, Mapping):
        for name in ("contentUrl", "url", "@value"):
            if value.get(name):
                yield from _addresses(value[name], depth + 1)
                return
