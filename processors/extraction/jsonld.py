"""JSON-LD as shops really write it, with paths such as `Product.offers.price` through it.

Microdata is turned into the same nodes, so one path language serves both.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TypeAlias

Node: TypeAlias = Mapping[str, object]

#: Kinds of a type. A path that asks for Product means these too.
KINDS = {
    "Product": frozenset(
        (
            *("Product", "ProductGroup", "ProductModel", "SomeProducts", "IndividualProduct"),
            *("Vehicle", "Car", "Motorcycle", "Book"),
        )
    ),
    "Offer": frozenset(("Offer", "AggregateOffer", "OfferForPurchase", "OfferForLease")),
    "Article": frozenset(("Article", "NewsArticle", "BlogPosting", "TechArticle", "Report", "ScholarlyArticle")),
}
#: Properties that lead from a product to others.
RELATED = frozenset(
    (
        *("isRelatedTo", "isSimilarTo", "isAccessoryOrSparePartFor", "isConsumableFor", "itemListElement", "mentions"),
        "itemReviewed",
    )
)
# What follows each other can't match the same: a script of a million newlines is looked at once, not once a line.
_COMMENT = re.compile(r"/\*.{0,20}?\*/|<!--|-->|<!\[CDATA\[|\]\]>|^[^\S\n]*+//.*$", re.MULTILINE)
# A string, kept as it is, or a comma with nothing after it, dropped. Strings first, so commas inside them survive;
# one without an end runs to the end of the script: to try again at each of its quotes takes minutes on hostile pages.
_STRING_OR_LOOSE_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+(?:"|\\?\Z))|,(?=\s*+[}\]])', re.DOTALL)
_BETWEEN_DOCUMENTS = re.compile(r"[\s;,]*+(?=[{\[])")
_BAD_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
# Deeper than any shop nests; a bound keeps hostile pages from exhausting the stack.
_MAX_DEPTH = 60
_MOST_DIGITS = 40
# To begin with a script, and to try it leniently, takes as long as this many values.
_EACH_SCRIPT = 10
_TEXT_KEYS = ("@value", "name", "url", "contentUrl")
# A text in a list in an object in a list: each level more may multiply what is looked through. Items of microdata may
# be lent to each other in a circle.
_TEXT_DEPTH = 6


@dataclass(frozen=True, slots=True)
class FoundValue:
    """A value at the end of a path, with the node that holds it (for its `priceCurrency` and such)."""

    value: object
    holder: Node


def values_in(text: str) -> int:
    """About how many values a script's text has, counted without reading it. Of quotes shops write some four a value."""
    return _EACH_SCRIPT + text.count("{") + text.count("[") + text.count(",") + text.count('"') // 8


def read_script(text: str) -> list[object] | None:
    """The JSON documents in a script's text, or None if it cannot be read even leniently.

    Forgiven: HTML comments, CDATA, trailing commas, control characters and bad escapes in strings, text after the
    document, several documents in a row, HTML entities in place of quotes.
    """
    for attempt in (str, _tidied, lambda raw: _tidied(html.unescape(raw))):
        documents = _documents(attempt(text))
        if documents:
            return documents
    return [] if not _COMMENT.sub("", text).strip(" \t\r\n;") else None


def _tidied(text: str) -> str:
    text = _COMMENT.sub("", text)
    text = _STRING_OR_LOOSE_COMMA.sub(lambda match: match[1] or "", text)
    return _BAD_ESCAPE.sub(r"\\\\", text)


def _documents(text: str) -> list[object]:
    decoder = json.JSONDecoder(strict=False, parse_float=_number, parse_constant=lambda _: None)
    documents: list[object] = []
    at = 0
    while (start := _next_document(text, at)) is not None:
        try:
            document, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        documents.append(document)
    return documents


def _number(literal: str) -> Decimal | None:
    """Numbers keep their digits: a price of 12.50 must not become 12.5, nor 0.1 a binary fraction."""
    try:
        return Decimal(literal)
    except InvalidOperation:
        return None


def _next_document(text: str, at: int) -> int | None:
    match = _BETWEEN_DOCUMENTS.match(text, at)
    return match.end() if match else None


class Nodes(list[Node]):
    """Nodes in document order, found by their type without a look at all others."""

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for at, node in enumerate(self):
            for name in types_of(node):
                places.setdefault(name, []).append(at)
        return places

    def of_types(self, wanted: Iterable[str]) -> list[Node]:
        """The nodes that have one of the types."""
        return [self[at] for at in sorted({at for name in wanted for at in self._places.get(name, ())})]


def nodes(documents: Iterable[object]) -> Nodes:
    """Every object in the documents, outer before inner, in document order; `@graph` and lists are seen through.

    What is only related to the page's subject (similar products, lists of others) comes after everything else.
    """
    own: list[Node] = []
    related: list[Node] = []
    for document in documents:
        _collect(document, own, related, 0)
    _join(own + related)
    return Nodes(own + related)


# What `plain` reads of a node; a node put there could hold itself.
_READ_PLAIN = ("@value", "name", "url", "contentUrl", "@id")


def _join(every: list[Node]) -> None:
    """Put each node where others only point to it by its `@id`, as a `@graph` of parts does."""
    whole = {
        node["@id"]: node for node in reversed(every) if isinstance(node.get("@id"), str) and not _is_pointer(node)
    }
    if not whole:
        return
    for node in every:
        for name, value in node.items():
            if name not in _READ_PLAIN and isinstance(node, dict):
                node[name] = _joined(value, whole)


def _joined(value: object, whole: Mapping[object, Node]) -> object:
    if isinstance(value, list):
        return [_joined(item, whole) if isinstance(item, dict) else item for item in value]
    if isinstance(value, dict) and _is_pointer(value) and isinstance(value["@id"], str):
        return whole.get(value["@id"], value)
    return value


def _is_pointer(node: Node) -> bool:
    return "@id" in node and not node.keys() - {"@id", "@type"}


def _collect(value: object, own: list[Node], related: list[Node], depth: int) -> None:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        own.append(value)
        for name, inner in value.items():
            _collect(inner, related if name in RELATED else own, related, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, own, related, depth + 1)


def types_of(node: Node) -> frozenset[str]:
    """The node's types without their vocabulary: `http://schema.org/Product` is Product."""
    declared = node.get("@type")
    names = declared if isinstance(declared, list) else [declared]
    return frozenset(name[_after_vocabulary(name) :] for name in names if isinstance(name, str))


def _after_vocabulary(name: str) -> int:
    return max(name.rfind("/"), name.rfind("#"), name.rfind(":")) + 1


def is_path(text: str) -> bool:
    """Whether the text is a path: names joined by dots, of which the first may be a type."""
    return re.fullmatch(r"@?\w+(\.@?\w+)*", text) is not None


def follow(path: str, every: Iterable[Node]) -> Iterator[FoundValue]:
    """The values at `path`, in document order.

    A capitalised first name is a type and matches nodes of it (and of its kinds) at any depth; without one, the
    path starts at every node. Lists and `@graph` are seen through; a name that leads nowhere gives nothing.
    """
    first, *names = path.split(".")
    if first[:1].isupper():
        wanted = KINDS.get(first, frozenset((first,)))
        known = every if isinstance(every, Nodes) else Nodes(every)
        starts: Iterable[Node] = known.of_types(wanted)
    else:
        names = [first, *names]
        starts = every
    for node in starts:
        yield from _steps(node, names, node, 0)


def _steps(value: object, names: list[str], holder: Node, depth: int) -> Iterator[FoundValue]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _steps(item, names, holder, depth + 1)
    elif not names:
        if value is not None:
            yield FoundValue(value, holder)
    elif isinstance(value, Mapping):
        if names[0] in value:
            yield from _steps(value[names[0]], names[1:], value, depth + 1)
        elif "@graph" in value:
            yield from _steps(value["@graph"], names, value, depth + 1)


def plain(value: object, depth: int = 0) -> str | None:
    """The text that a value stands for: itself, or an object's @value, name or url."""
    if isinstance(value, (Mapping, list)):
        inner = map(value.get, _TEXT_KEYS) if isinstance(value, Mapping) else value
        return next((text for item in inner if (text := plain(item, depth + 1))), None) if depth < _TEXT_DEPTH else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        # A hostile exponent would make gigabytes of zeros.
        return format(value, "f") if abs(value.adjusted()) < _MOST_DIGITS else None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_MOST_DIGITS else None
    return html.unescape(value) if isinstance(value, str) else None
