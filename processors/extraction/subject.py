"""Which of the products that a page declares is the page's own: by address and heading, not by place."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from processors.extraction.jsonld import KINDS, RELATED, Node, plain, types_of

_PRODUCT = KINDS["Product"]
_ADDRESSES = ("url", "@id", "mainEntityOfPage", "sameAs")
# Deeper than any shop nests.
_MAX_DEPTH = 40
_SHARED = 0.5


@dataclass(frozen=True, slots=True)
class About:
    """What tells which product a page is about: its addresses (own, canonical, declared), its heading and titles."""

    addresses: frozenset[str]
    heading: str
    titles: str

    def knows_address(self, node: Node) -> bool:
        """Whether the node has one of the page's addresses."""
        own = (_link(node.get(name)) for name in _ADDRESSES)
        offers = node.get("offers")
        every = offers if isinstance(offers, list) else [offers]
        offered = (plain(offer.get("url")) for offer in every[:20] if isinstance(offer, Mapping))
        return any(text and address(text) in self.addresses for text in (*own, *offered))

    def shares_name(self, name: str) -> float:
        """How much of the name the heading and the titles have, from 0 to 1; 1 where the heading is the name."""
        told = plain_words(name)
        if not told:
            return 0.0
        heading, titles = plain_words(self.heading), plain_words(self.titles)
        if told == heading:
            return 1.0
        shared = max(_overlap(told, heading), _overlap(told, titles))
        return min(shared, 0.95)


def _link(value: object) -> str | None:
    return plain(value.get("@id") or value) if isinstance(value, Mapping) else plain(value)


def plain_words(text: str) -> tuple[str, ...]:
    """The text's words, without case, accents and marks."""
    folded = unicodedata.normalize("NFKD", text[:400].casefold())
    return tuple(re.findall(r"[^\W_]+", "".join(char for char in folded if not unicodedata.combining(char))))


def _overlap(told: tuple[str, ...], other: tuple[str, ...]) -> float:
    if not other:
        return 0.0
    common = len(set(told) & set(other))
    # A name in a script without spaces is one word: then one holds the other.
    if not common:
        return _SHARED if "".join(told) in "".join(other) or "".join(other) in "".join(told) else 0.0
    return common / min(len(set(told)), len(set(other)))


def address(text: str) -> str:
    """The host's and the path's part of an address, as far as it tells pages apart; the path alone where it is relative."""
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        return ""
    path = unquote(parts.path).rstrip("/").casefold()
    return path if len(path) > 1 else ""


def own_nodes(nodes: Sequence[Node], about: About) -> list[Node]:
    """The nodes without those of other products, the page's own product first.

    Without a sign which of several products it is, none of them is.
    """
    products = [node for node in nodes if types_of(node) & _PRODUCT]
    if not products:
        return list(nodes)
    related = _related(nodes, RELATED)
    # What a page reviews is what it writes about, and not what it sells, whatever else it has to say of it.
    reviewed = _related(nodes, ("itemReviewed",))
    products = [node for node in products if id(node) not in reviewed]
    tops = [node for node in products if id(node) not in related] or products
    parts = _parts(products)
    heads = [node for node in tops if id(node) not in parts] or tops
    own = heads if len(heads) <= 1 and (len(products) == 1 or tops is not products) else _matching(heads, about)
    products = [node for node in nodes if types_of(node) & _PRODUCT]
    ours = {id(node) for node in _inside(own, set(), depth=-1)}
    others = [node for node in products if id(node) not in ours]
    # All at once: one walk for each would pass through what they share as often as there are others.
    theirs = {id(inner) for inner in _inside(others, ours, depth=-1)}
    first = [node for node in own if id(node) not in theirs]
    seen = {id(node) for node in first}
    return first + [node for node in nodes if id(node) not in theirs and id(node) not in seen]


def _matching(products: list[Node], about: About) -> list[Node]:
    """The products that are the page's, the best first; several where they describe the same one."""
    scored = [(_score(node, about), -at, node) for at, node in enumerate(products)]
    best = max(scored, key=lambda row: row[:2], default=None)
    if best is None or best[0] <= 0:
        return []
    told = plain_words(plain(best[2].get("name")) or "")
    same = [node for score, _, node in scored if score > 0 and node is not best[2] and _same(node, best[2], told)]
    return [best[2], *same]


def _score(node: Node, about: About) -> float:
    shared = about.shares_name(plain(node.get("name")) or "")
    score = 2.0 * about.knows_address(node) + (2.0 * shared if shared >= _SHARED else 0.0)
    return score and score + 0.5 * ("offers" in node) + 0.1 * ("sku" in node)


def _same(node: Node, best: Node, told: tuple[str, ...]) -> bool:
    if plain_words(plain(node.get("name")) or "") == told and told:
        return True
    return any(
        plain(node.get(key)) and plain(node.get(key)) == plain(best.get(key)) for key in ("sku", "@id", "gtin13")
    )


def _related(nodes: Sequence[Node], names: Iterable[str]) -> set[int]:
    """The nodes that others only list or relate to, by these properties."""
    found: set[int] = set()
    for node in nodes:
        for name in names:
            if name in node:
                for inner in _inside(node[name], found):
                    found.add(id(inner))
    return found


def _parts(products: list[Node]) -> set[int]:
    """The products that are variants of others among them, or stand inside their offers."""
    found: set[int] = set()
    for node in products:
        for name in ("hasVariant", "offers", "itemOffered"):
            if name in node:
                # Neither what was found before nor the node itself is entered; a copy of the set would take its square.
                known = id(node) in found
                found.add(id(node))
                inner = [id(one) for one in _inside(node[name], found)]
                if not known:
                    found.discard(id(node))
                found.update(inner)
    return found


def _inside(value: object, stop: set[int], *, depth: int = 0) -> Iterator[Node]:
    """Every node in the value, the nearest first, each once; those in `stop` and what is only related are not entered."""
    seen: set[int] = set()
    pending = deque([(value, depth)])
    while pending:
        current, level = pending.popleft()
        if level > _MAX_DEPTH:
            continue
        if isinstance(current, list):
            pending.extend((item, level + 1) for item in current if isinstance(item, (dict, list)))
        elif isinstance(current, dict) and id(current) not in seen and id(current) not in stop:
            seen.add(id(current))
            yield current
            pending.extend(
                (inner, level + 1)
                for name, inner in current.items()
                if isinstance(inner, (dict, list)) and name not in RELATED
            )
