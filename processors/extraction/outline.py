"""A page in document order, walked once: its elements by name, and the texts that a reader sees.

Each search of a tree costs as much as this walk, since most of the time goes into coming by the elements.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lxml import etree

from processors.extraction.text import UNSEEN

#: A class, id or the like that is longer than this is no name that anybody wrote.
LONGEST_NAME = 500


class Shown(NamedTuple):
    """A piece of visible text, with the element that it stands in."""

    text: str
    element: etree._Element


# A named tuple's own constructor takes longer than all else that is done for a text.
_shown = tuple.__new__


def elements_of(root: etree._Element) -> list[etree._Element]:
    """The body with all elements in it, and its comments, in document order."""
    body = next(root.iter("body"), None)
    return [] if body is None else list(body.iter())


def texts_of(elements: list[etree._Element]) -> list[Shown]:
    """Every piece of text in the body, in document order, white space made plain; no scripts, styles or comments."""
    if not elements:
        return []
    texts: list[Shown] = []
    opened = [elements[0].getparent()]
    for element in elements:
        parent = element.getparent()
        while opened[-1] is not parent:
            closed = opened.pop()
            # After an element comes its tail, which stands in its parent.
            if (tail := closed.tail) and (words := tail.split()) and opened[-1].tag not in UNSEEN:
                texts.append(_shown(Shown, (" ".join(words), opened[-1])))
        opened.append(element)
        if (text := element.text) and (words := text.split()) and _is_seen(element.tag):
            texts.append(_shown(Shown, (" ".join(words), element)))
    while len(opened) > 2:
        closed = opened.pop()
        if (tail := closed.tail) and (words := tail.split()) and opened[-1].tag not in UNSEEN:
            texts.append(_shown(Shown, (" ".join(words), opened[-1])))
    return texts


def _is_seen(tag: object) -> bool:
    return isinstance(tag, str) and tag not in UNSEEN


def places_by_name(elements: list[etree._Element]) -> dict[str, list[tuple[int, etree._Element]]]:
    """Elements inside the body with their places, by class, id, itemprop and test id, put together in lower case."""
    by_given: dict[tuple[Any, ...], list[tuple[int, etree._Element]]] = {}
    for at, element in enumerate(elements[1:]):
        name, identity, prop = element.get("class"), element.get("id"), element.get("itemprop")
        if name or identity or prop:
            given = (name, identity, prop, element.get("data-testid"))
            if given in by_given:
                by_given[given].append((at, element))
            else:
                by_given[given] = [(at, element)]
    by_name: dict[str, list[tuple[int, etree._Element]]] = {}
    for names, places in by_given.items():
        joined = " ".join([each[:LONGEST_NAME] for each in names if each]).lower()
        by_name.setdefault(joined, []).extend(places)
    return by_name
