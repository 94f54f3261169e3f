"""The preset `product` on pages that declare their facts, and on pages that only show them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import compile_fields
from processors.extraction.product_brand import tidy_brand
from processors.extraction.product_codes import tidy_gtin, tidy_sku
from schemas.record import RecordSchema

PRODUCT = compile_fields({}, preset="product")
URL = "https://shop.example/lamps/desk-lamp-p400105"


def found(body: str, url: str = URL) -> dict[str, object]:
    html = f"<html lang=en><head><title>Desk lamp Lux 40 - Shop</title></head><body>{body}</body></html>"
    return extract(html, url, PRODUCT)


def test_declared_facts_are_taken_and_fit_the_bundled_record() -> None:
    """JSON-LD fills every field, and the values conform to the record `product` as they are."""
    document = {
        "@type": "Product",
        "name": "Desk lamp",
        "sku": "DL-1",
        "gtin13": "4006381333931",
        "brand": {"name": "Lux"},
        "description": "Bright.",
        "image": ["/1.jpg", {"url": "/2.jpg"}],
        "offers": {"price": "19.90", "priceCurrency": "EUR", "availability": "https://schema.org/InStock"},
    }
    values = found(f'<script type="application/ld+json">{json.dumps(document)}</script>')
    assert values == {
        "title": "Desk lamp",
        "price": {"amount": "19.90", "currency": "EUR"},
        "availability": "InStock",
        "sku": "DL-1",
        "brand": "Lux",
        "gtin": "4006381333931",
        "description": "Bright.",
        "images": ["https://shop.example/1.jpg", "https://shop.example/2.jpg"],
    }
    schema = RecordSchema.load("product")
    schema.encode(schema.conform({"url": URL, **values}))


def test_shown_facts_are_found_without_any_markup() -> None:
    """Names of elements, labels and buttons are enough."""
    values = found(
        """
        <nav><a class="brand">Outlet</a><span class="cart-total price">€ 0,00</span></nav>
        <h1>Desk lamp Lux 40</h1>
        <div class="product-info"><span class="price-old">€ 29,90</span> <span class="price-now">€ 19,90</span></div>
        <button class="add-to-cart">Add to cart</button>
        <table><tr><th>Brand</th><td>Lux</td></tr><tr><th>Item no.</th><td>DL-40/1</td></tr>
          <tr><th>EAN:</th><td>4006381333931</td></tr></table>
        <div class="related-products"><span class="price">€ 5,00</span><span class="brand">Other</span></div>"""
    )
    assert values == {
        "title": "Desk lamp Lux 40",
        "price": {"amount": "19.90", "currency": "EUR"},
        "availability": "InStock",
        "sku": "DL-40/1",
        "brand": "Lux",
        "gtin": "4006381333931",
    }


def test_a_price_below_the_heading_needs_no_telling_names() -> None:
    """The first amount with a currency under the heading is the price; its sign may stand beside it."""
    assert found("<i>$3 off</i><h1>Desk lamp</h1><b>$</b> <b>19.90</b> <p>$5 shipping")["price"] == {
        "amount": "19.90",
        "currency": "USD",
    }


def test_a_zero_is_a_placeholder() -> None:
    """A declared price of nothing gives way to the one that the page shows."""
    zero = '{"@type": "Product", "offers": {"price": "0.00", "priceCurrency": "EUR"}}'
    html = f'<script type="application/ld+json">{zero}</script><h1>Desk lamp</h1><p class="price">€ 19,90'
    assert found(html)["price"] == {"amount": "19.90", "currency": "EUR"}


def test_what_is_gone_has_no_guessed_price() -> None:
    """On a page that says the product is gone, amounts belong to other products."""
    values = found(
        '<h1>Desk lamp</h1><div id="availability">Currently unavailable.</div><p>See also: table lamp <b>€ 9,90</b>'
    )
    assert values["availability"] == "OutOfStock"
    assert "price" not in values


def test_a_page_that_asks_a_price_offers_the_product() -> None:
    """Without a word of a lack, a shown price means that one can buy."""
    assert found("<h1>Desk lamp</h1><p>€ 20</p>")["availability"] == "InStock"
    assert "availability" not in found("<h1>Desk lamp</h1>")


def test_a_disabled_button_sells_nothing() -> None:
    """Only a button that works shows that the product is in stock."""
    assert "availability" not in found("<h1>Desk lamp</h1><button disabled class='add-to-cart'>Add to cart</button>")


def test_scripts_are_asked_when_the_page_is_silent() -> None:
    """Quoted keys in scripts give number, trade number, stock and price; a brand only if the title has it too."""
    script = (
        "dataLayer.push({'price': '19.90', \"sku\": \"DL-1\", 'brand': 'Lux', \"ean\": \"4006381333931\", "
        '"inStock": false})'
    )
    values = found(f"<h1>Desk lamp Lux 40</h1><script>{script}</script>")
    assert (values["sku"], values["brand"], values["gtin"]) == ("DL-1", "Lux", "4006381333931")
    assert (values["price"], values["availability"]) == ({"amount": "19.90", "currency": None}, "OutOfStock")
    assert "brand" not in found("<h1>Desk lamp</h1><script>x = {'brand': 'Shoppers'}</script>")


def test_the_address_names_the_product_if_the_page_does_too() -> None:
    """A number in the address counts only if the page has it as a value of its own."""
    assert found("<h1>Desk lamp</h1><div data-id='400105'>")["sku"] == "400105"
    assert "sku" not in found("<h1>Desk lamp</h1>")


@pytest.mark.parametrize(
    ("text", "gtin"),
    [
        ("4006381333931", "4006381333931"),
        ("EAN 4006381333931.", "4006381333931"),
        ("978-3-16-148410-0", "9783161484100"),
        ("0-306-40615-2", "0306406152"),
        ("096385074", None),
        ("4006381333932", None),
        ("0000000000000", None),
        ("none", None),
    ],
)
def test_a_trade_number_passes_its_check_digit(text: str, gtin: str | None) -> None:
    """Digits that fail their own check are some other number."""
    assert tidy_gtin(text) == gtin


def test_names_are_tidied() -> None:
    """Labels around a brand go, placeholders and sentences are none; a shop's number is no name."""
    told = ["Visit the Lux Store", "Brand: Lux", "See more of the brand: Lux", "$metabrand", "null", "shop.com"]
    assert [tidy_brand(text) for text in told] == ["Lux", "Lux", "Lux", None, None, None]
    assert [tidy_sku(text) for text in (" A-1. ", "DESK LAMP LARGE", "{{sku}}", "x")] == ["A-1", None, None, None]


pieces = st.lists(
    st.sampled_from(
        [
            "<h1>", "</h1>", "<p class=price>", "<span itemprop=price content=", "<div itemscope itemtype=Product>", "<del>",
            "</div>", "€ 12,99", "SKU:", "A-1", "EAN", "4006381333931", "Brand", "<table><tr><th>", "<td>", "&#xD800;", "\x00",
            "\ud800", "<script type=application/ld+json>", "{\"@type\":\"Product\",\"offers\":", "[1e999999,", "</script>", "<!--",
            "<base href='//['>", "<meta property=og:price:amount content=", "'", '"', ">", "<button>Add to cart", "<svg>", "<a href=",
        ]
    )
    | st.text(max_size=6),
    max_size=25,
)  # fmt: skip


@given(pieces, st.sampled_from(["", "https://shop.example/p400105?sku=1", "http://[", "\x00"]))
@settings(max_examples=300, deadline=None)
def test_no_page_breaks_the_preset(parts: list[str], url: str) -> None:
    """Any text gives values that are JSON and fit the record, or FieldMissing; nothing else is ever raised."""
    try:
        values = extract("".join(parts), url, PRODUCT)
    except FieldMissing as missing:
        assert missing.field == "title"
    else:
        schema = RecordSchema.load("product")
        schema.encode(schema.conform({"url": "u", **json.loads(json.dumps(values))}))


kinds = ["text", "money", "number", "integer", "date", "bool", "url", "availability"]
ANY = compile_fields({f"{kind}": {"css": "p", "type": kind, "required": False} for kind in kinds})


@given(st.text(max_size=40) | st.from_regex(r"[-+.,'\d$€kr ]{1,30}"))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_a_type(text: str) -> None:
    """Any text is read as each type or is not; the values are JSON."""
    json.dumps(extract(f"<p>{text}</p>", URL, ANY), allow_nan=False)
