"""A page's body in document order, walked once: its elements, the texts that a reader sees, the text of each element.

Every pass over a tree costs a page as much again, and the text of elements inside of each other would be put together once
for each of them: here each piece of text is visited once, and an element's text is a range of pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

from processors.extraction.text import CENTS_CLASS, INLINE, UNSEEN

#: A name longer than this is no name that anybody wrote.
LONGEST_NAME = 500


class Shown(NamedTuple):
    """A piece of visible text, with the element that it stands in."""

    text: str
    element: etree._Element


class _Point(str):
    """The decimal point between digits and the decimals that stand in an element of their own."""

    __slots__ = ()


_SPACE = " "
_POINT = _Point(".")


class Outline:
    """The elements of a body with their texts. `elements` holds comments too."""

    def __init__(self, root: etree._Element) -> None:
        body = next(root.iter("body"), None)
        self.elements: list[etree._Element] = [] if body is None else list(body.iter())
        self.texts: list[Shown] = []
        self._pieces: list[str] = []
        self._begins: dict[etree._Element, int] = {}
        self._ends: dict[etree._Element, int] = {}
        if body is not None:
            self._walk(body)

    def text_of(self, element: etree._Element, enough: int | None) -> str | None:
        """The element's text as `text.text_of` gives it, or None for an element that is not in the body or not seen."""
        begin = self._begins.get(element)
        if begin is None:
            return None
        end = self._ends[element]
        if begin < end and self._pieces[begin] is _POINT:
            begin += 1
        if enough is not None:
            end = self._up_to(begin, end, enough)
        return " ".join("".join(self._pieces[begin:end]).split())

    def _up_to(self, begin: int, end: int, enough: int) -> int:
        length = 0
        for at in range(begin, end):
            length += len(self._pieces[at].strip())
            if length > enough:
                return at + 1
        return end

    def _walk(self, body: etree._Element) -> None:
        """Visit each element once; what is open stands on a stack, with how many of it a reader doesn't see."""
        pieces, begins = self._pieces, self._begins
        opened = [body.getparent()]
        unseen = [0]
        for element in self.elements:
            parent = element.getparent()
            while opened[-1] is not parent:
                self._close(opened, unseen)
            tag = element.tag
            hidden = unseen[-1]
            if not isinstance(tag, str):
                opened.append(element)
                unseen.append(hidden)
                continue
            is_unseen = tag in UNSEEN
            opened.append(element)
            unseen.append(hidden + is_unseen)
            text = element.text
            words = text.split() if text else None
            if words and not is_unseen:
                self.texts.append(Shown(" ".join(words), element))
            if hidden or is_unseen:
                continue
            if tag not in INLINE and (not pieces or pieces[-1] is not _SPACE):
                pieces.append(_SPACE)
            if words is None:
                begins[element] = len(pieces)
            else:
                self._add(element, text, words)
        while len(opened) > 1:
            self._close(opened, unseen)

    def _add(self, element: etree._Element, text: str, words: list[str]) -> None:
        pieces = self._pieces
        if len(words) == 1 and len(words[0]) == 2 and words[0].isdecimal() and _holds_cents(element):
            if pieces and pieces[-1][-1:].isdigit():
                pieces.append(_POINT)
            text = words[0]
        self._begins[element] = len(pieces)
        if words:
            pieces.append(text)
        elif not pieces or pieces[-1] is not _SPACE:
            pieces.append(_SPACE)

    def _close(self, opened: list[etree._Element], unseen: list[int]) -> None:
        pieces = self._pieces
        element = opened.pop()
        unseen.pop()
        if element in self._begins:
            self._ends[element] = len(pieces)
            if element.tag not in INLINE and (not pieces or pieces[-1] is not _SPACE):
                pieces.append(_SPACE)
        if (tail := element.tail) and len(opened) > 1:
            parent = opened[-1]
            words = tail.split()
            if words and parent.tag not in UNSEEN:
                self.texts.append(Shown(" ".join(words), parent))
            if not unseen[-1]:
                if words:
                    pieces.append(tail)
                elif not pieces or pieces[-1] is not _SPACE:
                    pieces.append(_SPACE)


def _holds_cents(element: etree._Element) -> bool:
    return element.tag == "sup" or CENTS_CLASS.search(element.get("class", "")[:LONGEST_NAME]) is not None


_NAMING = ("class", "id", "itemprop", "data-testid")


def names(outline: Outline) -> Iterator[tuple[str, etree._Element]]:
    """Every element inside the body that has a class, an id or an itemprop, with these and its test id in lower case."""
    for element in outline.elements[1:]:
        given = [name[:LONGEST_NAME] for key in _NAMING if (name := element.get(key))]
        if given:
            yield " ".join(given).lower(), element
