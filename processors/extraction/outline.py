"""A page in document order, walked once: its elements by name, and the texts that a reader sees.

Each search of a tree costs as much as this walk, since most of the time goes into coming by the elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

from processors.extraction.text import UNSEEN

#: A class, id or the like that is longer than this is no name that anybody wrote.
LONGEST_NAME = 500


class Shown(NamedTuple):
    """A piece of visible text, with the element that it stands in."""

    text: str
    element: etree._Element


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
                texts.append(Shown(" ".join(words), opened[-1]))
        opened.append(element)
        if (text := element.text) and (words := text.split()) and _is_seen(element.tag):
            texts.append(Shown(" ".join(words), element))
    while len(opened) > 2:
        closed = opened.pop()
        if (tail := closed.tail) and (words := tail.split()) and opened[-1].tag not in UNSEEN:
            texts.append(Shown(" ".join(words), opened[-1]))
    return texts


def _is_seen(tag: object) -> bool:
    return isinstance(tag, str) and tag not in UNSEEN


def names_of(elements: list[etree._Element]) -> Iterator[tuple[str, etree._Element]]:
    """Every element inside the body that has a class, an id or an itemprop, with these and its test id in lower case."""
    for element in elements[1:]:
        name, identity, prop = element.get("class"), element.get("id"), element.get("itemprop")
        if name or identity or prop:
            given = (name, identity, prop, element.get("data-testid"))
            yield " ".join([each[:LONGEST_NAME] for each in given if each]).lower(), element
