"""Microdata (`itemscope`, `itemprop`) as the nodes that JSON-LD paths walk through."""

from __future__ import annotations

from itertools import islice

from lxml import etree

from processors.extraction.jsonld import RELATED
from processors.extraction.text import text_of

_URL_ATTRIBUTES = {"a": "href", "link": "href", "area": "href", "img": "src", "source": "src", "iframe": "src"}
_MARKED = etree.XPath("descendant-or-self::*[@itemscope or @itemprop]")
# A property's item is looked for this far up; pages nest some thirty deep, hostile ones without end.
_MOST_LEVELS = 200


def items(root: etree._Element) -> list[dict[str, object]]:
    """Every item of the page in document order, nested ones too; a property given twice is a list.

    A property outside any item belongs to none, though shops that forget `itemscope` mean the product: those are
    gathered in one more item of type Product. Items that are only related to others come last.
    """
    own: list[dict[str, object]] = []
    related: list[dict[str, object]] = []
    stray: dict[str, object] = {}
    # Of each element with `itemscope`: its item, with the list that items inside it go to.
    found: dict[etree._Element, tuple[dict[str, object], list[dict[str, object]]]] = {}
    for element in _MARKED(root):
        above = islice(element.iterancestors(), _MOST_LEVELS)
        owner, place = next((found[parent] for parent in above if parent in found), (stray, own))
        names = (element.get("itemprop") or "").split()
        if element.get("itemscope") is None:
            value: object = value_of(element)
        else:
            value = item = {"@type": (element.get("itemtype") or "").split()}
            place = place if RELATED.isdisjoint(names) else related
            place.append(item)
            found[element] = (item, place)
        for name in names:
            _add(owner, name, value)
    if stray:
        own.append(stray | {"@type": "Product"})
    return own + related


def _add(owner: dict[str, object], name: str, value: object) -> None:
    if name not in owner:
        owner[name] = value
    elif isinstance(held := owner[name], list):
        held.append(value)
    else:
        owner[name] = [held, value]


def value_of(element: etree._Element) -> str:
    """A property's value: `content` wherever it is set, then what the HTML standard says for the element."""
    content = element.get("content")
    if content is not None:
        return str(content)
    tag = str(element.tag)
    attribute = _URL_ATTRIBUTES.get(tag) or {"time": "datetime", "data": "value", "meter": "value"}.get(tag)
    if attribute and (value := element.get(attribute)):
        return str(value)
    return text_of(element)
