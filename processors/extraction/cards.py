"""Cards: the repeated boxes of a list, of which each shows a product, a post or a choice of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from lxml import etree

# So many alike make a list.
_ALIKE = 3
# An element's card is looked for this far up.
_LEVELS = 9


def leads_on(card: etree._Element) -> bool:
    """Whether it links to or pictures something: the rows of a price, its former one and the saving do not."""
    return next(card.iter("a", "img"), None) is not None


def in_cards(
    elements: Iterable[etree._Element], is_card: Callable[[etree._Element], bool] = leads_on
) -> dict[etree._Element, etree._Element]:
    """Of those elements that stand in cards, the card: one of three or more siblings alike that each hold one of them."""
    every = list(elements)
    alike: dict[tuple[etree._Element, str], list[etree._Element]] = {}
    keys: dict[etree._Element, tuple[etree._Element, str]] = {}
    chains: list[list[tuple[tuple[etree._Element, str], etree._Element]]] = []
    for element in every:
        chain = []
        current = element
        for parent in islice(element.iterancestors(), _LEVELS):
            key = keys.get(current)
            if key is None:
                key = keys[current] = (parent, f"{current.tag} {current.get('class', '').partition(' ')[0]}")
                alike.setdefault(key, []).append(current)
            chain.append((key, current))
            current = parent
        chains.append(chain)
    lists = {key for key, cards in alike.items() if len(cards) >= _ALIKE and sum(map(is_card, cards)) >= _ALIKE}
    found: dict[etree._Element, etree._Element] = {}
    for element, chain in zip(every, chains, strict=True):
        # The innermost repetition is a row of prices in one card; the outermost is the list itself.
        card = next((inner for key, inner in reversed(chain) if key in lists), None)
        if card is not None:
            found[element] = card
    return found
