"""Microdata (`itemscope`, `itemprop`) as the nodes that JSON-LD paths walk through."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeAlias

from lxml import etree

from processors.extraction.images import image_address
from processors.extraction.jsonld import RELATED

_URL_ATTRIBUTES = {"a": "href", "link": "href", "area": "href", "source": "src", "iframe": "src"}
_MARKED = etree.XPath("descendant-or-self::*[@itemscope or @itemprop]")
_IDENTIFIED = etree.XPath("descendant-or-self::*[@id]")
_MOST_REFERENCES = 100

#: An item's properties by name, as a JSON-LD node has them.
Item: TypeAlias = dict[str, object]
TextOf: TypeAlias = Callable[[etree._Element], str]
# An item, with the list that items inside it go to.
_Scope: TypeAlias = tuple[Item, list[Item]]


def items(root: etree._Element, text_of: TextOf) -> list[Item]:
    """Every item of the page in document order, nested ones too; a property given twice is a list.

    A property outside any item belongs to none, though shops that forget `itemscope` mean the product: where no item is
    one, those are gathered in one more item of type Product. Items that are only related to others come last.
    """
    own: list[Item] = []
    related: list[Item] = []
    stray: Item = {}
    marked = _MARKED(root)
    lent, lenders = _lent(root, marked)
    # Of each element with `itemscope` its own, of those on the way up to one the same; of one that is lent the borrower's.
    scopes: dict[etree._Element, _Scope] = {element: (item, own) for element, item in lent.items()}
    for element in marked:
        owner, place = (lent[element], own) if element in lent else _scope_of(element, scopes, (stray, own))
        names = (element.get("itemprop") or "").split()
        if element.get("itemscope") is None:
            value: object = value_of(element, text_of)
        else:
            value = item = lenders.get(element, {})
            item["@type"] = (element.get("itemtype") or "").split()
            place = place if RELATED.isdisjoint(names) else related
            place.append(item)
            scopes[element] = (item, place)
        for name in names:
            _add(owner, name, value)
    if stray and not any("Product" in str(item["@type"]) for item in own):
        own.append(stray | {"@type": "Product"})
    return own + related


def _scope_of(element: etree._Element, scopes: dict[etree._Element, _Scope], outside: _Scope) -> _Scope:
    """The item around an element. The way up is remembered: elements in the same place don't go it again."""
    way: list[etree._Element] = []
    scope = outside
    for above in element.iterancestors():
        if above in scopes:
            scope = scopes[above]
            break
        way.append(above)
    scopes.update(dict.fromkeys(way, scope))
    return scope


def _lent(
    root: etree._Element, marked: list[etree._Element]
) -> tuple[dict[etree._Element, Item], dict[etree._Element, Item]]:
    """The elements that `itemref` lends to an item elsewhere, each with that item; the items by their own elements."""
    referring = (each for each in marked if each.get("itemref") is not None and each.get("itemscope") is not None)
    lenders: dict[etree._Element, Item] = {scope: {} for scope in islice(referring, _MOST_REFERENCES)}
    wanted = {
        name: item for scope, item in lenders.items() for name in scope.get("itemref", "").split()[:_MOST_REFERENCES]
    }
    lent: dict[etree._Element, Item] = {}
    for element in _IDENTIFIED(root) if wanted else ():
        item = wanted.get(element.get("id", ""))
        if item is not None and lenders.get(element) is not item:
            lent.setdefault(element, item)
    return lent, lenders


def _add(owner: Item, name: str, value: object) -> None:
    if name not in owner:
        owner[name] = value
    elif isinstance(held := owner[name], list):
        held.append(value)
    else:
        owner[name] = [held, value]


def value_of(element: etree._Element, text_of: TextOf) -> str:
    """A property's value: `content` wherever it is set, then what the HTML standard says for the element."""
    content = element.get("content")
    if content is not None:
        return str(content)
    tag = str(element.tag)
    if tag == "img":
        return image_address(element)
    attribute = _URL_ATTRIBUTES.get(tag) or {"time": "datetime", "data": "value", "meter": "value"}.get(tag)
    if attribute and (value := element.get(attribute)):
        return str(value)
    return text_of(element)
