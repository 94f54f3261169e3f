"""What a reader would see of an element: its text, with white space made plain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

from lxml import etree

#: Elements whose text nobody sees.
UNSEEN = frozenset(("script", "style", "noscript", "template"))
_INLINE = frozenset(
    (
        *("a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd"),
        *(
            "label",
            "mark",
            "q",
            "s",
            "samp",
            "small",
            "span",
            "strike",
            "strong",
            "sub",
            "sup",
            "time",
            "tt",
            "u",
            "var",
        ),
    )
)
# "12<sup>99</sup>" is 12.99 to a reader; its plain text would be 1299.
_CENTS_CLASS = re.compile(r"cent|fraction|decimal|penn", re.IGNORECASE)
_CENTS = re.compile(r"\s*\d\d\s*")
# Of an element that is asked for a short text. The largest that hold one, with icons drawn in them, have some hundred.
_MOST_PIECES = 1_000
# One takes as long as joining this many characters.
_PIECE_COST = 20

#: Told the cost of a text, in characters.
Spend: TypeAlias = Callable[[int], None]


def text_of(element: etree._Element, enough: int | None = None, spend: Spend | None = None) -> str:
    """The text inside the element: no scripts, styles or comments; blocks and line breaks part words.

    Past `enough` characters the rest may be left out, for callers that refuse longer text anyway; of an element with
    very many elements before that, which nobody would read as one short text, there is none. `spend` is told the cost.
    """
    if len(element) == 0:
        text = " ".join((element.text or "").split()) if isinstance(element.tag, str) else ""
        if spend is not None:
            spend(len(text))
        return text
    parts: list[str] = []
    length = 0
    for piece in _pieces(element):
        if piece and parts and _is_joined(parts[-1], piece):
            parts.append(".")
        parts.append(piece)
        length += len(piece.strip())
        if enough is not None and (length > enough or len(parts) > _MOST_PIECES):
            break
    if spend is not None:
        spend(length + _PIECE_COST * len(parts))
    if enough is not None and length <= enough and len(parts) > _MOST_PIECES:
        return ""
    return " ".join("".join(parts).split())


def _pieces(element: etree._Element) -> Iterator[str]:
    walker = etree.iterwalk(element, events=("start", "end", "comment", "pi"))
    for event, node in walker:
        if event == "start":
            if node.tag in UNSEEN and node is not element:
                walker.skip_subtree()
                continue
            if node.tag not in _INLINE:
                yield " "
            yield _Cents(node.text.strip()) if _is_cents(node) else node.text or ""
            continue
        if event == "end" and node.tag not in _INLINE:
            yield " "
        if node is not element:
            yield node.tail or ""


class _Cents(str):
    """Digits that are decimals of the number before them."""

    __slots__ = ()


def _is_joined(before: str, piece: str) -> bool:
    return isinstance(piece, _Cents) and before[-1:].isdigit()


def _is_cents(node: etree._Element) -> bool:
    if node.text is None or not _CENTS.fullmatch(node.text):
        return False
    return node.tag == "sup" or _CENTS_CLASS.search(node.get("class", "")) is not None
