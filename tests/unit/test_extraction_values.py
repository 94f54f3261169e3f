"""Text read as money, numbers, dates, addresses, stock: what is meant, or nothing."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from encodings.aliases import aliases
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.extraction.availability import read_availability
from processors.extraction.charset import decode
from processors.extraction.currencies import CODES, code_of
from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import compile_fields
from processors.extraction.money import Money, PriceContext, read_money


def read(text: str, kind: str, *, lang: str = "en", url: str = "https://shop.example/", **hints: Any) -> object:
    """What a field of that type makes of the text; None if it is missing."""
    fields = compile_fields({"f": {"css": "p", "type": kind, "required": False, **hints}})
    return extract(f"<html lang={lang}><p>{text}", url, fields).get("f")


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("12,99 €", "12.99", "EUR"),
        ("1.234,50 €", "1234.50", "EUR"),
        ("US$ 1,234.50", "1234.50", "USD"),
        ("CHF 1'299.–", "1299", "CHF"),
        ("35€ 99", "35.99", "EUR"),
        ("3 Ausgaben für nur 14,85 EUR", "14.85", "EUR"),
        ("nur 5,- €", "5", "EUR"),
        ("R$ 1.759,99", "1759.99", "BRL"),
        ("249 ₽", "249", "RUB"),
        ("99 ر.س", "99", "SAR"),
        ("23 499 Kč", "23499", "CZK"),
        ("Free", "0", None),
        ("A$190.00", "190.00", "AUD"),
        ("NZD$12", "12", "NZD"),
        ("from the top 10", "10", None),
    ],
)
def test_prices_are_read_as_shops_write_them(text: str, amount: str, currency: str | None) -> None:
    """Amounts are exact, the number at the currency is meant, words that happen to be codes are no currencies."""
    assert read_money(text, PriceContext()) == Money(Decimal(amount), currency)


@pytest.mark.parametrize("text", ["", "call us", "Buy 2 for £5", "AQUAFINESSE", "50% OFF", "9" * 40 + " €"])
def test_text_without_a_price_is_no_money(text: str) -> None:
    """Nothing is made up where there is no amount, nor where digits are a number of another kind."""
    assert read_money(text, PriceContext()) is None


@pytest.mark.parametrize(
    ("head", "url", "hints", "currency"),
    [
        ("", "https://shop.example/", {}, "USD"),
        ("", "https://shop.ca/", {}, "CAD"),
        ("", "https://shop.com.au/", {}, "AUD"),
        ('<meta property="og:price:currency" content="MXN">', "https://shop.ca/", {}, "MXN"),
        ('<meta property="og:price:currency" content="EUR">', "https://shop.ca/", {}, "CAD"),
        (
            '<script type="application/ld+json">{"@type":"Offer","priceCurrency":"CLP"}</script>',
            "https://shop.example/",
            {},
            "CLP",
        ),
        ('<meta property="og:price:currency" content="MXN">', "https://shop.ca/", {"currency": "SGD"}, "SGD"),
    ],
)
def test_a_dollar_sign_is_the_dollar_of_the_page(head: str, url: str, hints: dict[str, str], currency: str) -> None:
    """The hint decides, then what the page declares (if it is a dollar), then the country, else US dollars."""
    fields = compile_fields({"price": {"css": "p", "type": "money", **hints}})
    assert extract(f"{head}<p>$5", url, fields) == {"price": {"amount": "5", "currency": currency}}


def test_a_price_without_a_sign_takes_the_declared_currency_or_none() -> None:
    """A hint or the page's own currency completes a bare number; otherwise the currency stays unknown."""
    assert read("5.00", "money") == {"amount": "5.00", "currency": None}
    assert read("5.00", "money", currency="PLN") == {"amount": "5.00", "currency": "PLN"}


def test_structured_prices_have_a_decimal_point_unless_the_currency_has_no_decimals() -> None:
    """JSON-LD's "1299.000" is 1299, but "24.990" Chilean pesos are thousands."""
    assert read_money("1299.000", PriceContext(), structured=True, symbol="EUR") == Money(Decimal("1299.000"), "EUR")
    assert read_money("24.990", PriceContext(), structured=True, symbol="CLP") == Money(Decimal("24990"), "CLP")


def test_small_cents_are_cents() -> None:
    """A price whose cents stand in a raised or a telling element of their own is not a hundred times as much."""
    assert read("12<sup>99</sup> €", "money") == {"amount": "12.99", "currency": "EUR"}
    assert read('€ 7<span class="price-cents"> 49</span>', "money") == {"amount": "7.49", "currency": "EUR"}
    assert read("10<sup>6</sup> m", "text") == "106 m"


@given(st.sampled_from(sorted(CODES)), st.decimals(0, 10**9, places=2), st.booleans())
@settings(max_examples=150, deadline=None)
def test_code_with_amount_reads_back(code: str, amount: Decimal, first: bool) -> None:
    """Any ISO 4217 code beside any amount, on either side, gives both back."""
    text = f"{code} {amount:.2f}" if first else f"{amount:.2f} {code}"
    assert read_money(text, PriceContext()) == Money(amount, code)


def test_spellings_of_currencies_are_codes() -> None:
    """Signs, abbreviations and names mean one code; a shared one means that of the nearest country."""
    spelled = {"€": "EUR", "zł": "PLN", "Kč": "CZK", "руб.": "RUB", "₺": "TRY", "eur": "EUR", "Rs": "INR", "kr": "SEK"}
    assert {spelling: code_of(spelling) for spelling in spelled} == spelled
    assert code_of("kr", places=("dk",)) == "DKK"
    assert code_of("Rs.", places=("example", "ur-pk")) == "PKR"
    assert code_of("¥", places=("zh",)) == "CNY"
    assert (code_of(""), code_of("Price"), code_of("SKU")) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "hints", "number"),
    [
        ("4.5 of 5", {}, 4.5),
        ("1,234 reviews", {}, 1234),
        ("-7 °C", {}, -7),
        ("1.234", {"decimal": ","}, 1234),
        ("1.234", {"decimal": "."}, 1.234),
        ("none", {}, None),
        ("9" * 30, {}, None),
    ],
)
def test_numbers_are_read_with_their_marks(text: str, hints: dict[str, str], number: float | None) -> None:
    """Grouping and decimals are told apart, or by the hint; identifiers too long for a number are none."""
    assert read(text, "number", **hints) == number


def test_an_integer_is_whole() -> None:
    """A fraction is no integer: it is not cut."""
    assert read("12 pieces", "integer") == 12
    assert read("12.5 pieces", "integer") is None


@pytest.mark.parametrize(
    ("text", "lang", "hints", "iso"),
    [
        ("2024-05-06", "en", {}, "2024-05-06"),
        ("2024-05-06T10:30:00+02:00", "en", {}, "2024-05-06T10:30:00+02:00"),
        ("6. Mai 2024", "de", {}, "2024-05-06"),
        ("6 mai 2024 à 10:30", "fr", {}, "2024-05-06T10:30:00"),
        ("03/04/2024", "fr", {}, "2024-04-03"),
        ("03/04/2024", "en", {}, "2024-03-04"),
        ("03/04/2024", "en", {"locale": "en-GB"}, "2024-04-03"),
        ("03/04/2024", "en", {"date_order": "DMY"}, "2024-04-03"),
        ("6 maja 2024", "en", {"languages": ["pl"]}, "2024-05-06"),
        ("May 2024", "en", {}, None),
        ("10:30", "en", {}, None),
        ("yesterday", "en", {}, None),
        ("3 days ago", "en", {}, None),
        ("soon", "en", {}, None),
    ],
)
def test_dates_are_complete_or_absent(text: str, lang: str, hints: dict[str, Any], iso: str | None) -> None:
    """ISO 8601 in the page's language or the hinted one; no day, month or year is ever filled in from today."""
    assert read(text, "date", lang=lang, **hints) == iso


def test_relative_dates_count_from_now_if_it_is_given() -> None:
    """With `now` as an argument "3 days ago" is a date, the same on every run."""
    fields = compile_fields({"f": {"css": "p", "type": "date"}})
    for _ in range(2):
        values = extract("<html lang=en><p>3 days ago", "", fields, now=datetime(2024, 5, 6, 12))
        assert str(values["f"]).startswith("2024-05-03")


def test_a_time_element_says_its_date_itself() -> None:
    """`datetime` is preferred to what is shown."""
    fields = compile_fields({"f": {"css": "time", "type": "date"}})
    assert extract('<time datetime="2024-05-06">last week</time>', "", fields) == {"f": "2024-05-06"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://schema.org/InStock", "InStock"),
        ("https://schema.org/OutOfStock/", "OutOfStock"),
        ("in_stock", "InStock"),
        ("Currently unavailable.", "OutOfStock"),
        ("Only 3 left in stock", "LimitedAvailability"),
        ("No longer available", "Discontinued"),
        ("Derzeit nicht verfügbar", "OutOfStock"),
        ("Auf Lager", "InStock"),
        ("Rupture de stock", "OutOfStock"),
        ("Нет в наличии", "OutOfStock"),
        ("Skladom", "InStock"),
        ("売り切れ", "OutOfStock"),
        ("Pre-order now", "PreOrder"),
        ("Image unavailable", None),
        ("hello", None),
    ],
)
def test_stock_is_named_as_schema_org_does(text: str, name: str | None) -> None:
    """Names, addresses and a shop's own words in many languages become one vocabulary."""
    assert read_availability(text) == name


def test_truth_is_said_in_words() -> None:
    """yes, no and their like; anything else is not a bool."""
    assert [read(text, "bool") for text in ("Yes", "nein", "https://schema.org/True", "maybe")] == [
        True,
        False,
        True,
        None,
    ]


def test_addresses_are_absolute() -> None:
    """Links are resolved against the page or its <base>; what is no web address is none."""
    fields = compile_fields({"f": {"css": "a", "type": "list", "items": "url"}})
    html = '<a href="x">1</a><a href="//cdn.example/y">2</a><a href="mailto:a@b.c">3</a><a href="http://[">4</a>'
    page = "https://shop.example/de/"
    assert extract(html, page, fields) == {"f": ["https://shop.example/de/x", "https://cdn.example/y"]}
    assert extract(f'<base href="/en/">{html}', page, fields)["f"] == [
        "https://shop.example/en/x",
        "https://cdn.example/y",
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "text", "encoding"),
    [
        ("é".encode(), None, "é", "utf-8"),
        ("é".encode("latin-1"), None, "é", "cp1252"),
        ("é".encode("latin-1"), "text/html; charset=ISO-8859-1", "é", "cp1252"),
        ("é".encode("utf-16"), "text/html; charset=ascii", "é", "utf-16-le"),
        ("<meta charset=iso-8859-2>ł".encode("iso-8859-2"), None, "<meta charset=iso-8859-2>ł", "iso8859-2"),
        ("é".encode(), "text/html; charset=nonsense", "é", "utf-8"),
        (b"", "\x00\udc80", "", "utf-8"),
    ],
)
def test_bytes_become_text(body: bytes, content_type: str | None, text: str, encoding: str) -> None:
    """Byte-order mark, header, <meta>, valid UTF-8, Windows-1252: the first that applies."""
    assert decode(body, content_type) == (text, encoding)


@pytest.mark.parametrize("codec", sorted({*aliases.values(), "idna", "undefined", "punycode", "unicode_escape"}))
def test_no_codec_of_python_breaks_a_page(codec: str) -> None:
    """A page may name any codec that Python knows, those that are no charsets too."""
    for body in (b"\xff\x80abc", f"<meta charset={codec}>\xe9".encode()):
        assert isinstance(decode(body, f"text/html; charset={codec}")[0], str)
        assert isinstance(decode(body, None)[0], str)


@given(st.binary(max_size=80), st.none() | st.text(max_size=40))
@example(b"\xff\xfe\x00", "text/html; charset=utf-7")
@example(b"<meta charset='hex'>", None)
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_undecodable(body: bytes, content_type: str | None) -> None:
    """Whatever a server sends becomes text that libxml2 can take."""
    text, encoding = decode(body, content_type)
    assert isinstance(text, str)
    assert "".encode(encoding) is not None
    with pytest.raises(FieldMissing):
        extract(text, "", compile_fields({"f": "never"}))
