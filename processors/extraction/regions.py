"""Which parts of a page are not about its product."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache

from lxml import etree

from processors.extraction.names import LONGEST_NAME

_ASIDE = re.compile(
    r"relat(?:ed|ion)|recommend|recom\b|carousel|similar|upsell|cross-?sell|slider|slick|swiper|teaser|tile|footer|"
    r"(?:site|page|main|global|top)-?header|\bheader\b|nav\b|navbar|menu|sidebar|\balso|recent|bundle|sponsor|accessor|"
    r"compar|viewed|popular|bestsell|suggest|modal|popup|product-?(?:list|grid|card|item)|mini-?cart|shopping-?cart|"
    r"cart-?(?:preview|summary|content)|promo|banner|filter|cookie|consent",
    re.IGNORECASE,
)
_TAGS = frozenset(("nav", "footer", "aside"))
# A word such as "cart" far above an element is the name of the whole page's layout.
_LEVELS = 8


def is_aside(element: etree._Element, around_heading: Container[etree._Element] = ()) -> bool:
    """Whether the element stands in a menu, a footer, a list of other products, judged by the names around it.

    What holds the product's heading too (`around_heading`) is not aside, whatever it is called.
    """
    for level, above in enumerate((element, *element.iterancestors())):
        if level > _LEVELS or above.tag in ("main", "body"):
            return False
        if above in around_heading:
            return False
        if above.tag in _TAGS or _names_aside(names_of(above)):
            return True
    return False


@lru_cache(maxsize=4096)
def _names_aside(names: str) -> bool:
    """Elements ask for the names around them, which are the same for all that stand together."""
    return _ASIDE.search(names) is not None


def names_of(element: etree._Element) -> str:
    """The element's class with its id."""
    return f"{element.get('class', '')[:LONGEST_NAME]} {element.get('id', '')[:LONGEST_NAME]}"
