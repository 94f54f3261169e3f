"""The amounts that a page shows as prices, the likeliest first: by the names of elements, their place, the words around."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import islice

from lxml import etree

from processors.extraction import names
from processors.extraction.amounts import AT_CURRENCY, PriceRole, amounts
from processors.extraction.cards import in_cards, leads_on
from processors.extraction.currencies import code_of, local
from processors.extraction.heading import is_hidden
from processors.extraction.money import read_money
from processors.extraction.numerals import plain_digits
from processors.extraction.page import Page
from processors.extraction.regions import is_aside, names_of
from processors.extraction.text import text_of
from processors.extraction.values import Hints, setting_of

_FOR_SALE = re.compile(
    r"our|sale|final|current|actual|special|new|now|buy|main|product|detail|big|aktu|action|akcni", re.IGNORECASE
)
_NOT_THIS = re.compile(
    r"old|was\b|list|regular|strike|crossed|before|rrp|msrp|uvp|sav(?:e|ing)|discount|per-|unit|ship|deliver|install|"
    r"instal|month|monat|tax|\bmin|\bmax|range|filter|cart|basket|total|crowd|history|compare|bid|credit|loan|points|label|"
    r"wrapper|container|bonus|coupon|quantity|tier|lowest|note|info|base-?price|grundpreis|per100|original|former|"
    r"voucher|deposit|from-?price-?other|rate\b|leasing|financ",
    re.IGNORECASE,
)
# Codes that are no words, and that shops of any country write.
_EVERYWHERE = frozenset(("EUR", "USD", "GBP", "CHF"))
_STRUCK = frozenset(("del", "s", "strike"))
_STRUCK_NAME = re.compile(
    r"\bold|old\b|was\b|-was|strike|crossed|before|rrp|msrp|uvp|regular|list-?price|price-?list|original|former|compare-?at|stara|puvodni|"
    r"streich|barre|antes|previous|line-?through",
    re.IGNORECASE,
)
_STRUCK_STYLE = re.compile(r"line-through", re.IGNORECASE)
_SEVERAL = re.compile(r"\d[\d.,\s]*")
_LONGEST = 60
# The words around an amount are looked for in a parent of no more text than this.
_LONGEST_AROUND = 120
_MOST = 400
# So many of the likeliest are read; reading costs more than finding.
_MOST_READ, _MOST_STRUCK = 25, 6
_LEAST = 0.5
#: Below this a named element is no better than any amount with a currency right under the heading.
CERTAIN = 3.5
# Above this it is the price that a reader sees first, whatever structured data says.
_MAIN = 4.5
# How many pieces of text around the heading are its own.
_NEAR = 80
_AFTER = 60
# Ancestors whose names still speak of the element itself.
_OWN_LEVELS = 2


@dataclass(frozen=True, slots=True)
class ShownPrice:
    """An amount in an element that is named for a price; `is_main` if it is the one that a reader takes for the price.

    `is_listed`: it stands in one of several cards alike.
    """

    text: str
    amount: Decimal
    currency: str | None
    score: float
    place: int
    part: PriceRole
    is_struck: bool
    is_main: bool
    is_listed: bool

    @property
    def is_current(self) -> bool:
        """Whether a buyer pays it now."""
        return not self.is_struck and self.part in (PriceRole.PRICE, PriceRole.REGULAR)


@dataclass(frozen=True, slots=True)
class _Candidate:
    text: str
    element: etree._Element
    score: float
    place: int
    is_struck: bool
    is_listed: bool


def shown_prices(page: Page) -> list[ShownPrice]:
    """The amounts that the page shows as prices, the likeliest first; ask with `Page.once`."""
    setting = setting_of(page, Hints())
    found: list[ShownPrice] = []
    ranked = sorted(page.once(_candidates), key=lambda candidate: -candidate.score)
    likely = [candidate for candidate in ranked if candidate.score >= _LEAST][:_MOST_READ]
    struck = [candidate for candidate in ranked if candidate.score < _LEAST and candidate.is_struck][:_MOST_STRUCK]
    for candidate in (*likely, *struck):
        part = _part(candidate)
        money = read_money(candidate.text, setting)
        if money is None and part in (PriceRole.PRICE, PriceRole.REGULAR):
            continue
        if money is None and (number := _only_amount(candidate.text)):
            money = read_money(number, setting)
        if money is None or money.amount == 0:
            continue
        score = candidate.score - (2.0 if part not in (PriceRole.PRICE, PriceRole.REGULAR) else 0.0)
        near = -3 <= candidate.place - page.heading_place <= _NEAR
        is_main = (
            score >= _MAIN
            and near
            and part is PriceRole.PRICE
            and not candidate.is_struck
            and not candidate.is_listed
            and money.currency is not None
        )
        found.append(
            ShownPrice(
                candidate.text,
                money.amount,
                money.currency,
                score,
                candidate.place,
                part,
                candidate.is_struck,
                is_main,
                candidate.is_listed,
            )
        )
    return sorted(found, key=lambda price: -price.score)


def listed_cards(page: Page) -> set[etree._Element]:
    """The cards, alike and side by side, that show a price each."""
    return set(page.once(_cards).values())


def _cards(page: Page) -> dict[etree._Element, etree._Element]:
    return in_cards((element for _, element in page.once(_named)), _is_price_card)


def _is_price_card(card: etree._Element) -> bool:
    """Whether it is one thing's price among others: a tile that leads on, or a row such as that of a table of rates."""
    if leads_on(card):
        return True
    text = text_of(card, _LONGEST_AROUND)
    parts = [amount.part for amount in amounts(plain_digits(text))] if len(text) <= _LONGEST_AROUND else []
    # Two amounts alike are repeated on purpose: a former price and the price, with tax and without.
    return bool(parts) and set(parts) == {PriceRole.PRICE} and card.tag in ("tr", "li", "div", "label", "p")


def _named(page: Page) -> list[tuple[str, etree._Element]]:
    found: list[tuple[str, etree._Element]] = []
    for element in islice(page.named(names.PRICE), _MOST):
        text = element.get("content") or text_of(element, _LONGEST)
        if len(text) <= _LONGEST and any(map(str.isdigit, text)):
            found.append((text, element))
    return found


def _candidates(page: Page) -> list[_Candidate]:
    named = page.once(_named)
    cards = page.once(_cards)
    seen = Counter(_digits(text) for text, _ in named)
    return [
        # The price of the page is repeated in the basket, the sticky bar, the variant list.
        _candidate(page, text, element, 0.3 * min(seen[_digits(text)], 4), element in cards)
        for text, element in named
    ]


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _candidate(page: Page, text: str, element: etree._Element, repeated: float, is_listed: bool) -> _Candidate:
    """How likely the text is the price; weights were set on labelled pages, none decides alone."""
    name = names_of(element)
    above = [parent for _, parent in zip(range(_OWN_LEVELS), element.iterancestors(), strict=False)]
    place = page.place_of(element)
    distance = place - page.heading_place
    is_struck = _is_struck(element, above)
    score = 1.0 + repeated
    score += 2.0 if AT_CURRENCY.search(text) else 0.0
    score += 1.5 if _is_for_sale(name) else 0.0
    score += 3.0 if element.get("itemprop") == "price" else 0.0
    # Just below the heading is where a reader looks; above it are menus, baskets and offers of the day.
    score += 2.5 / (1 + distance / 30) if distance >= 0 else -1.0
    score -= 1.5 if len(_SEVERAL.findall(text)) > 2 else 0.0
    score -= 2.0 if "%" in text else 0.0
    score -= 2.5 if _is_not_this(name) else 0.0
    score -= 2.0 * sum(_is_not_this(names_of(parent)) for parent in above)
    score -= 5.0 if is_struck else 0.0
    score -= 2.5 if is_listed else 0.0
    score -= 2.5 if is_aside(element, page.around_heading) else 0.0
    score -= 2.5 if score > 0 and is_hidden(element) else 0.0
    return _Candidate(text, element, score, place, is_struck, is_listed)


@lru_cache(maxsize=4096)
def _is_for_sale(names: str) -> bool:
    return _FOR_SALE.search(names) is not None


@lru_cache(maxsize=4096)
def _is_not_this(names: str) -> bool:
    return _NOT_THIS.search(names) is not None


def _is_struck(element: etree._Element, above: list[etree._Element]) -> bool:
    if _STRUCK & {element.tag, *(parent.tag for parent in above)}:
        return True
    if any(_STRUCK_STYLE.search(each.get("style", "")) for each in (element, *above)):
        return True
    inner = [child for child in islice(element.iter(), 20) if child.tag in _STRUCK]
    return bool(inner) and not any((child.tail or "").strip() for child in inner)


def _part(candidate: _Candidate) -> PriceRole:
    """What the amount is by the words around it, those of the element's parent included where it is short."""
    own = list(amounts(plain_digits(candidate.text)))
    found = next(
        (amount.part for amount in own if amount.part is PriceRole.PRICE), own[0].part if own else PriceRole.PRICE
    )
    if found is PriceRole.PRICE and len(own) <= 1:
        found = _part_in_parent(candidate)
    if found is PriceRole.PRICE and _STRUCK_NAME.search(names_of(candidate.element)):
        return PriceRole.REGULAR
    return found


def _part_in_parent(candidate: _Candidate) -> PriceRole:
    parent = candidate.element.getparent()
    if parent is None or candidate.element.get("content") is not None:
        return PriceRole.PRICE
    around = text_of(parent, _LONGEST_AROUND)
    if len(around) > _LONGEST_AROUND or candidate.text not in around or around == candidate.text:
        return PriceRole.PRICE
    digits = _digits(plain_digits(candidate.text))
    same = (amount.part for amount in amounts(plain_digits(around)) if _digits(amount.number) == digits)
    return next(same, PriceRole.PRICE)


def _only_amount(text: str) -> str:
    found = list(amounts(plain_digits(text)))
    return f"{found[0].currency} {found[0].number}" if len(found) == 1 else ""


def after_heading(page: Page) -> Iterator[tuple[str, bool]]:
    """Short texts with an amount and a currency below the heading, the nearest first; the last says if it is in prose."""
    texts = page.texts
    found: list[tuple[str, etree._Element]] = []
    for at in range(page.heading_place, min(page.heading_place + _AFTER, len(texts))):
        shown = texts[at]
        if len(shown.text) > _LONGEST or shown.element.tag in _STRUCK or not any(map(str.isdigit, shown.text)):
            continue
        # The sign often stands in an element of its own, on either side.
        sides = [text if len(text) <= 4 else "" for text in (_text(page, at - 1), _text(page, at + 1))]
        around = f"{sides[0]} {shown.text} {sides[1]}"
        if _is_amount(page, around) and not is_aside(shown.element, page.around_heading):
            found.append((around, shown.element))
    cards = in_cards(element for _, element in found)
    for around, element in found:
        if element not in cards and not _is_in_card(page, element):
            yield around, is_in_prose(element)


def _is_amount(page: Page, text: str) -> bool:
    """Whether the text has an amount; letters are a currency only where the page or its place agrees (AMD, PHP, 3D)."""
    setting = setting_of(page, Hints())
    for match in AT_CURRENCY.finditer(text):
        sign = match["before"] or match["after"]
        if not sign.strip(".").isalpha() or not sign.isascii():
            return True
        code = code_of(sign, near=setting.currencies, places=setting.places)
        is_word = text[match.end() : match.end() + 1].isalnum()
        if (
            code is not None
            and not is_word
            and (code in setting.currencies or code in local(setting.places) or code in _EVERYWHERE)
        ):
            return True
    return False


def _is_in_card(page: Page, element: etree._Element) -> bool:
    cards = page.once(listed_cards)
    return bool(cards) and any(above in cards for above in islice(element.iterancestors(), 10))


def is_in_prose(element: etree._Element) -> bool:
    """Whether the element's text is part of a sentence rather than a line of its own."""
    block = next((above for above in islice(element.iterancestors(), 6) if above.tag in _BLOCKS), None)
    block = element if element.tag in _BLOCKS else block
    return block is not None and len(text_of(block, _LONGEST_AROUND)) > _LONGEST_AROUND


_BLOCKS = frozenset(("p", "li", "td", "dd", "blockquote", "figcaption", "article", "section", "div"))


def _text(page: Page, at: int) -> str:
    return page.texts[at].text if 0 <= at < len(page.texts) else ""
