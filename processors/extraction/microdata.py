"""Microdata (`itemscope`, `itemprop`) as the nodes that JSON-LD paths walk through."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lxml import etree

from processors.extraction.jsonld import RELATED

_URL_ATTRIBUTES = {"a": "href", "link": "href", "area": "href", "img": "src", "source": "src", "iframe": "src"}
_MARKED = etree.XPath("descendant-or-self::*[@itemscope or @itemprop]")

TextOf: TypeAlias = Callable[[etree._Element], str]
# An item, with the list that items inside it go to.
_Scope: TypeAlias = tuple[dict[str, object], list[dict[str, object]]]


def items(root: etree._Element, text_of: TextOf) -> list[dict[str, object]]:
    """Every item of the page in document order, nested ones too; a property given twice is a list.

    A property outside any item belongs to none, though shops that forget `itemscope` mean the product: those are
    gathered in one more item of type Product. Items that are only related to others come last.
    """
    own: list[dict[str, object]] = []
    related: list[dict[str, object]] = []
    stray: dict[str, object] = {}
    # Of each element with `itemscope` its own, of those on the way up to one the same.
    scopes: dict[etree._Element, _Scope] = {}
    for element in _MARKED(root):
        owner, place = _scope_of(element, scopes, (stray, own))
        names = (element.get("itemprop") or "").split()
        if element.get("itemscope") is None:
            value: object = value_of(element, text_of)
        else:
            value = item = {"@type": (element.get("itemtype") or "").split()}
            place = place if RELATED.isdisjoint(names) else related
            place.append(item)
            scopes[element] = (item, place)
        for name in names:
            _add(owner, name, value)
    if stray:
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


def _add(owner: dict[str, object], name: str, value: object) -> None:
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
    attribute = _URL_ATTRIBUTES.get(tag) or {"time": "datetime", "data": "value", "meter": "value"}.get(tag)
    if attribute and (value := element.get(attribute)):
        return str(value)
    return text_of(element)
