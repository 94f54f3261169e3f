"""Microdata (`itemscope`, `itemprop`) as the nodes that JSON-LD paths walk through."""

from __future__ import annotations

from lxml import etree

from processors.extraction.jsonld import RELATED
from processors.extraction.text import text_of

_URL_ATTRIBUTES = {"a": "href", "link": "href", "area": "href", "img": "src", "source": "src", "iframe": "src"}
_ITEMS = etree.XPath("//*[@itemscope]")
_PROPERTIES = etree.XPath("//*[@itemprop]")


def items(root: etree._Element) -> list[dict[str, object]]:
    """Every item of the page in document order, nested ones too; a property given twice is a list.

    A property outside any item belongs to none, though shops that forget `itemscope` mean the product: those are
    gathered in one more item of type Product. Items that are only related to others come last.
    """
    found = {element: _new_item(element) for element in _ITEMS(root)}
    related = [item for element, item in found.items() if _is_related(element)]
    stray: dict[str, object] = {}
    for element in _PROPERTIES(root):
        owner = next((found[above] for above in element.iterancestors() if above in found), stray)
        value: object = found[element] if element in found else value_of(element)
        for name in element.get("itemprop", "").split():
            _add(owner, name, value)
    if stray:
        stray["@type"] = "Product"
    own = [item for item in found.values() if not any(item is other for other in related)]
    return [*own, *([stray] if stray else []), *related]


def _is_related(element: etree._Element) -> bool:
    above = (element, *element.iterancestors())
    return any(not RELATED.isdisjoint((inner.get("itemprop") or "").split()) for inner in above)


def _new_item(element: etree._Element) -> dict[str, object]:
    return {"@type": (element.get("itemtype") or "").split()}


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
