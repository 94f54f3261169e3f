"""The price of the page's product: what is declared, checked against what is shown; then what is only shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from lxml import etree

from processors.extraction.availability import read_availability
from processors.extraction.money import Money, read_money
from processors.extraction.numerals import plain_digits
from processors.extraction.offers import Declared, current_prices, offers, regular_prices
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, is_doubted, kind_of, may_guess
from processors.extraction.product_stock import GONE, is_gone
from processors.extraction.scripted import keys
from processors.extraction.shown_prices import CERTAIN, ShownPrice, after_heading, shown_prices
from processors.extraction.values import Hints, Raw, setting_of

_DATA = etree.XPath("//body/descendant::*/@*[starts-with(name(), 'data-') and contains(name(), 'price')]")
_SCRIPTED = keys(("price", "Price"), "", r"""\\?["']?(\d{1,7}(?:\.\d{1,4})?)(?![\w.])""", bare=True)
# Of scripts' prices so many are looked at.
_MOST_SCRIPTED = 20


@dataclass(frozen=True, slots=True)
class _Offered:
    declared: Declared
    money: Money


def prices(page: Page) -> Iterator[Raw]:
    """Texts that may be the price, the surest first."""
    offered = page.once(_offered)
    priced = [one for one in offered if one.money.amount > 0]
    if priced:
        yield from page.once(lambda page: list(_checked(page, priced)), key=_checked)
        return
    if kind_of(page) is Kind.OTHER or is_gone(page):
        return
    # A shop that declares no price, or none yet, may show one all the same, but only in its place.
    is_declared = bool(offered or offers(page))
    certain = not is_doubted(page)
    for price in page.once(shown_prices):
        if price.is_current and not price.is_listed and price.score >= CERTAIN:
            yield Raw(
                price.text, source="shown", sure=0.85 if price.is_main and certain else 0.7 if price.is_main else 0.6
            )
    if is_declared or not may_guess(page):
        return
    for text, is_prose in after_heading(page):
        yield Raw(text, source="text", sure=0.2 if is_prose else 0.6 if certain else 0.5)
    for value in _DATA(page.root)[:1]:
        yield Raw(str(value), structured=True, source="attribute", sure=0.5)
    for _, amount in zip(range(_MOST_SCRIPTED), _SCRIPTED.values(page), strict=False):
        yield Raw(amount, structured=True, source="script", sure=0.5)


def regular(page: Page) -> Iterator[Raw]:
    """What one would have paid, where it is more than the price."""
    price = next((money for raw in prices(page) if (money := _money(page, raw))), None)
    if price is None:
        return
    for declared in regular_prices(page):
        raw = Raw(declared.text, True, declared.currency, declared.source, 0.9)
        if (money := _money(page, raw)) and money.amount > price.amount:
            yield raw
    current = next((one for one in page.once(shown_prices) if one.is_current and one.amount == price.amount), None)
    for shown in page.once(shown_prices):
        is_beside = current is not None and abs(shown.place - current.place) <= 12
        if (
            not shown.is_current
            and shown.part.value in ("price", "was", "regular")
            and is_beside
            and shown.amount > price.amount
        ):
            yield Raw(shown.text, source="shown", sure=0.7)


def _money(page: Page, raw: Raw) -> Money | None:
    return read_money(raw.text, setting_of(page, Hints()), structured=raw.structured, symbol=raw.currency)


def _offered(page: Page) -> list[_Offered]:
    setting = setting_of(page, Hints())
    return [
        _Offered(declared, money)
        for declared in current_prices(page)
        if (money := read_money(declared.text, setting, structured=True, symbol=declared.currency))
    ]


def _checked(page: Page, priced: list[_Offered]) -> Iterator[Raw]:
    """The declared price that the page shows too; where they differ, what a reader sees as the price."""
    shown = page.once(shown_prices)
    current = [price for price in shown if price.is_current]
    main = next((price for price in current if price.is_main), None)
    by_amount = {one.money.amount: one for one in reversed(priced)}
    agreed = next((price for price in current if price.amount in by_amount and price.score >= CERTAIN), None)
    if main is not None and main.amount in by_amount:
        yield _raw(by_amount[main.amount], 0.98)
    elif agreed is not None and (main is None or len(by_amount) == 1 or main.score - agreed.score < 2.0):
        yield _raw(by_amount[agreed.amount], 0.95)
    elif main is not None and not _is_seen(page, by_amount, main, shown):
        # Structured data is often older than the page, or without taxes.
        yield Raw(main.text, source="shown", sure=0.7)
    default = _default(page, priced)
    yield _raw(default, 0.9 if len(by_amount) == 1 else 0.8)


def _is_seen(page: Page, declared: dict[Decimal, _Offered], main: ShownPrice, shown: list[ShownPrice]) -> bool:
    """Whether a declared amount stands anywhere near the heading as a current price, in whatever form."""
    struck = {price.amount for price in shown if not price.is_current}
    if any(amount in struck for amount in declared):
        return False
    wanted = {digits for amount in declared for digits in _spellings(amount)}
    start = max(0, page.heading_place - 10)
    for text in page.texts[start : start + 150]:
        plain = plain_digits(text.text)
        if any(map(str.isdigit, plain)) and "".join(filter(str.isdigit, plain)) in wanted:
            return True
    return False


def _spellings(amount: Decimal) -> set[str]:
    whole = amount == amount.to_integral_value()
    return {f"{amount:.2f}".replace(".", ""), *({f"{amount:.0f}"} if whole else ()), f"{amount:f}".replace(".", "")}


def _default(page: Page, priced: list[_Offered]) -> _Offered:
    """Of several offers that the page shows none of: the first source's cheapest that can be bought."""
    first = [one for one in priced if one.declared.source == priced[0].declared.source]
    open_ = [one for one in first if read_availability(one.declared.available) not in GONE] or first
    return min(open_, key=lambda one: (one.money.amount, one.declared.offer))


def _raw(one: _Offered, sure: float) -> Raw:
    declared = one.declared
    return Raw(declared.text, True, declared.currency, declared.source, sure)


def is_offered(page: Page) -> bool:
    """Whether the page asks a price for its own product."""
    return any(raw.sure >= 0.5 and (money := _money(page, raw)) and money.amount > 0 for raw in prices(page))
