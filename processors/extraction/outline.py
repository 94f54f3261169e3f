"""A page in document order, walked once: its elements by name, and the texts that a reader sees.

Each search of a tree costs as much as this walk, since most of the time goes into coming by the elements.
"""

from __future__ import annotations

from typing import NamedTuple

from lxml import etree

from processors.extraction.text import UNSEEN


class Shown(NamedTuple):
    """A piece of visible text, with the element that it stands in."""

    text: str
    element: etree._Element


# A named tuple's own constructor takes longer than all else that is done for a text.
_shown = tuple.__new__


def elements_of(root: etree._Element) -> list[etree._Element]:
    """The body with all elements in it, and its comments, in document order."""
    # A search of the tree would go on to its end for the next one.
    body = next((child for child in root if child.tag == "body"), None)
    body = next(root.iter("body"), None) if body is None else body
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
        # Scripts hold most of a page's characters: their text isn't even asked for.
        tag = element.tag
        if tag.__class__ is str and tag not in UNSEEN and (text := element.text) and (words := text.split()):
            texts.append(_shown(Shown, (" ".join(words), element)))
    while len(opened) > 2:
        closed = opened.pop()
        if (tail := closed.tail) and (words := tail.split()) and opened[-1].tag not in UNSEEN:
            texts.append(_shown(Shown, (" ".join(words), opened[-1])))
    return texts
