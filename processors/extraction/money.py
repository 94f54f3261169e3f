"""Prices in text as exact amounts with ISO 4217 currencies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from price_parser import Price

from processors.extraction.currencies import ANYWHERE, BESIDE_NUMBER, WITHOUT_DECIMALS, code_of

# Digits are taken for good: no currency begins with one, and three hundred would be shared out in thousands of ways.
_NUMBER = r"(?:\d{1,3}(?: \d{3})++(?!\d)(?:[.,]\d++)?|\d++(?:[.,'\u2019]\d++)*+)(?:[.,] \d\d(?!\d))?(?:[.,][-\u2013]++)?|[.,]\d++"
#: An amount beside a currency, on either side.
AT_CURRENCY = re.compile(
    rf"(?P<before>{BESIDE_NUMBER})\s*(?P<number>{_NUMBER})|(?P<number2>{_NUMBER})\s*(?P<after>{BESIDE_NUMBER})",
    re.IGNORECASE,
)
_CENTS = re.compile(r"\s?\d\d(?![\w.,/])")
# Structured data promises a point for decimals and no grouping: "1299.000" is 1299, not 1.3 million.
_STRUCTURED = re.compile(r"\d+(\.\d+)?", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(\.\d{3})+", re.ASCII)
_LONGEST = 300
# Over this no shop sells; digits of an article number or a telephone do reach it.
_MOST = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class PriceContext:
    """What decides where text alone is ambiguous, each tuple in order of trust.

    `currencies` are codes, `places` country domains or language tags, `assumed` is the code where text has none.
    """

    currencies: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    decimal: str | None = None
    assumed: str | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """An amount, with its currency if one could be told."""

    amount: Decimal
    currency: str | None

    def to_json(self) -> dict[str, str | None]:
        """As it travels: the amount as text, since JSON's numbers are binary."""
        return {"amount": format(self.amount, "f"), "currency": self.currency}


def read_money(text: str, setting: PriceContext, *, structured: bool = False, symbol: str = "") -> Money | None:
    """The money that the text means, or None. `symbol` is a currency found beside the text.

    Of several numbers the one that touches a currency is meant, else the first.
    """
    text = " ".join(text[:_LONGEST].split())
    currency = _currency(text, symbol, setting)
    if structured and _STRUCTURED.fullmatch(text):
        amount: Decimal | None = _structured(text, currency)
    else:
        amount = Price.fromstring(_at_currency(text), decimal_separator=setting.decimal).amount
    if amount is None or not 0 <= amount < _MOST:
        return None
    return Money(amount, currency or setting.assumed)


def _structured(text: str, currency: str | None) -> Decimal:
    if currency in WITHOUT_DECIMALS and _GROUPED.fullmatch(text):
        return Decimal(text.replace(".", ""))
    return Decimal(text)


def _at_currency(text: str) -> str:
    """The part of the text around the number that touches a currency, or the text itself."""
    match = AT_CURRENCY.search(text)
    if match is None:
        return text
    if match["before"]:
        return match["number"]
    # "35€ 99" is 35.99, which price-parser knows if it sees the cents.
    cents = _CENTS.match(text, match.end())
    return text[match.start() : cents.end() if cents else match.end()]


def _currency(text: str, symbol: str, setting: PriceContext) -> str | None:
    touching = AT_CURRENCY.search(text)
    spelled = [touching["before"] or touching["after"]] if touching else []
    spelled += [match[0] for match in (ANYWHERE.search(text),) if match]
    for word in (*spelled, symbol):
        if code := code_of(word, near=setting.currencies, places=setting.places):
            return code
    known = Price.fromstring(None, symbol or None).currency if symbol else None
    if known and (code := code_of(known, near=setting.currencies, places=setting.places)):
        return code
    return None
