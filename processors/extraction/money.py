"""Prices in text as exact amounts with ISO 4217 currencies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from price_parser import Price

from processors.extraction.amounts import AT_CURRENCY, Amount, PriceRole, amounts
from processors.extraction.currencies import ANYWHERE, code_of, decimals_of
from processors.extraction.numerals import NUMBER, Marks, marks_of, plain_digits, read_number

# Structured data promises a point for decimals and no grouping: "1299.000" is 1299, not 1.3 million.
_STRUCTURED = re.compile(r"\d+(\.\d+)?", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(\.\d{3})+", re.ASCII)
_ANY_NUMBER = re.compile(NUMBER, re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:[-\u2013\u2014~\u301c\uff5e]|to|bis|à|a|do|до|till|tot|hasta|até)\s*", re.IGNORECASE)
_LONGEST = 300
# Over this no shop sells; digits of an article number or a telephone do reach it.
_MOST = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class PriceContext:
    """What decides where text alone is ambiguous, each tuple in order of trust.

    `currencies` are codes, `places` country domains or language tags, `assumed` is the code where text has none.
    `languages` are language tags, whose marks part decimals and thousands.
    """

    currencies: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    decimal: str | None = None
    assumed: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Money:
    """An amount, with its currency if one could be told."""

    amount: Decimal
    currency: str | None

    def to_json(self) -> dict[str, str | None]:
        """As it travels: the amount as text, since JSON's numbers are binary."""
        return {"amount": format(self.amount, "f"), "currency": self.currency}


def read_money(text: str, setting: PriceContext, *, structured: bool = False, symbol: str = "") -> Money | None:
    """The money that the text means, or None where it means none or can be read in two ways.

    `symbol` is a currency found beside the text. Of several amounts the price is meant, by the words around them: not
    what it was, nor what a litre, a month or two pieces cost.
    """
    text = plain_digits(text[:_LONGEST])
    found = _money(text, setting, structured, symbol)
    return found if found is not None and 0 <= found.amount < _MOST else None


def _money(text: str, setting: PriceContext, structured: bool, symbol: str) -> Money | None:
    beside = _code(symbol, setting)
    if structured and _STRUCTURED.fullmatch(text):
        return _with(_structured(text, beside), beside or setting.assumed)
    if AT_CURRENCY.search(text):
        meant = price_of(list(amounts(text)), text)
        if meant is None:
            return None
        code = _code(meant.currency, setting)
        return _with(_amount(meant.number, setting, code or beside), code or beside or setting.assumed)
    spelled = ANYWHERE.search(text)
    code = (_code(spelled[0], setting) if spelled else None) or beside
    parsed = Price.fromstring(text, decimal_separator=setting.decimal)
    if parsed.amount == 0:
        return Money(Decimal(0), code or setting.assumed)
    number = _ANY_NUMBER.search(text, max(0, text.find(parsed.amount_text or ""))) if parsed.amount_text else None
    return _with(_amount(number[0], setting, code or setting.assumed) if number else None, code or setting.assumed)


def price_of(found: list[Amount], text: str) -> Amount | None:
    """The amount that a buyer pays now, or None if there is none among them, or nothing says which."""
    # A regular price alone is what one pays; beside another it is what one would have paid.
    current = [amount for amount in found if amount.part is PriceRole.PRICE] or [
        amount for amount in found if amount.part is PriceRole.REGULAR
    ]
    if now := [amount for amount in current if amount.is_now]:
        return now[0]
    first = current[0] if current else None
    if first is None or len({amount.number for amount in current}) == 1:
        return first
    # "$10 - $20" begins with the lowest that one can pay; of "$25 $19" nobody knows which one is.
    between = text[first.end : current[1].start]
    return first if _RANGE.fullmatch(between) or re.search(r"\w", between) else None


def _with(amount: Decimal | None, currency: str | None) -> Money | None:
    return None if amount is None else Money(amount, currency)


def _amount(number: str, setting: PriceContext, currency: str | None) -> Decimal | None:
    digits = decimals_of(currency) if currency else None
    return read_number(number, _marks(setting), digits, setting.decimal)


def _marks(setting: PriceContext) -> Marks:
    return marks_of(setting.languages)


def _structured(text: str, currency: str | None) -> Decimal:
    if currency and decimals_of(currency) == 0 and _GROUPED.fullmatch(text):
        return Decimal(text.replace(".", ""))
    return Decimal(text)


def _code(word: str, setting: PriceContext) -> str | None:
    if not word:
        return None
    if code := code_of(word, near=setting.currencies, places=setting.places):
        return code
    known = Price.fromstring(None, word).currency
    return code_of(known, near=setting.currencies, places=setting.places) if known else None
