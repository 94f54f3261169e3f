"""JSON-LD and microdata as shops write them, and the paths through them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.extraction.extract import extract
from processors.extraction.fields import compile_fields
from processors.extraction.jsonld import nodes, read_script

URL = "https://shop.example/lamp"


def page(*scripts: str) -> str:
    return "".join(f'<script type="application/ld+json">{script}</script>' for script in scripts)


def at(path: str, html: str, kind: str = "text", source: str = "jsonld") -> object:
    """What the path finds on the page, or None."""
    fields = compile_fields({"f": {source: path, "type": kind, "required": False}})
    return extract(html, URL, fields).get("f")


@pytest.mark.parametrize(
    "script",
    [
        '<!-- {"name": "Lamp"} -->',
        '/*<![CDATA[*/ {"name": "Lamp"} /*]]>*/',
        '// <![CDATA[\n{"name": "Lamp"}\n// ]]>',
        '{"name": "Lamp",}',
        '{"tags": ["a, ]", "b",], "name": "Lamp"}',
        '{"name": "Lamp", "description": "two\nlines\tand a tab"}',
        r'{"description": "it\'s", "name": "Lamp"}',
        '{"name": "Lamp"};',
        '{"x": 1} {"name": "Lamp"}',
        "{&quot;name&quot;: &quot;Lamp&quot;}",
        '{"price": NaN, "name": "Lamp"}',
    ],
)
def test_broken_scripts_are_still_read(script: str) -> None:
    """What shops get wrong is forgiven, and commas inside strings survive it."""
    assert at("name", page(script)) == "Lamp"


def test_what_is_not_json_is_told_apart_from_nothing() -> None:
    """An unreadable script gives None, an empty one no documents."""
    assert read_script("{name: Lamp}") is None
    assert read_script(" ") == []


def test_nesting_without_end_is_cut() -> None:
    """A hostile depth neither raises nor costs the page's other scripts."""
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    assert at("Product.name", page(deep, '{"@type": "Product", "name": "Lamp"}')) == "Lamp"
    assert len(nodes([json.loads('{"a":' * 200 + "1" + "}" * 200)])) < 100


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        ({"@type": "Product", "offers": {"@type": "Offer", "price": 12.5}}, "Product.offers.price", "12.5"),
        ({"@type": "Product", "offers": [{"price": "1"}, {"price": "2"}]}, "Product.offers.price", "1"),
        ({"@graph": [{"@type": "WebPage"}, {"@type": "Product", "sku": "A1"}]}, "Product.sku", "A1"),
        ([{"@type": "BreadcrumbList"}, {"@type": ["Thing", "Product"], "sku": 7}], "Product.sku", "7"),
        ({"@type": "http://schema.org/Product", "sku": "A1"}, "Product.sku", "A1"),
        ({"@type": "WebPage", "mainEntity": {"@type": "Product", "sku": "A1"}}, "Product.sku", "A1"),
        ({"@type": "ProductGroup", "name": "Lamps"}, "Product.name", "Lamps"),
        ({"@type": "Product", "brand": {"@type": "Brand", "name": "Lux"}}, "Product.brand", "Lux"),
        ({"@type": "Product", "name": {"@value": "Lampe", "@language": "de"}}, "Product.name", "Lampe"),
        ({"@type": "Product", "name": "Tom &amp; Co"}, "Product.name", "Tom & Co"),
        ({"@type": "Product", "sku": None}, "Product.sku", None),
        ({"@type": "Product", "offers": "none"}, "Product.offers.price", None),
        ({"@type": "Article", "name": "No"}, "Product.name", None),
        ({"@type": 5, "name": "Lamp"}, "name", "Lamp"),
    ],
)
def test_paths_see_through_types_lists_and_graphs(document: object, path: str, value: str | None) -> None:
    """A type matches at any depth, with its kinds; the first value along the names is taken as text."""
    assert at(path, page(json.dumps(document))) == value


def test_related_products_are_not_the_product() -> None:
    """What a product is only related to comes last, wherever the page has it."""
    other = {"@type": "Product", "name": "Bulb"}
    document = {"@graph": [{"@type": "ItemList", "itemListElement": [other]}, {"@type": "Product", "name": "Lamp"}]}
    assert at("Product.name", page(json.dumps(document))) == "Lamp"
    shelf = '<ul itemscope itemtype="/ItemList"><li itemprop="itemListElement" itemscope itemtype="/Product">'
    html = f'{shelf}<b itemprop=name>Bulb</b></ul><div itemscope itemtype="/Product"><b itemprop=name>Lamp</b></div>'
    assert at("Product.name", html, source="microdata") == "Lamp"


def test_an_offer_is_money_with_its_currency() -> None:
    """A price takes the currency of its own offer; the offer itself may be asked for as well."""
    offers = [{"price": "10.00", "priceCurrency": "EUR"}, {"price": "12.00", "priceCurrency": "USD"}]
    html = page(json.dumps({"@type": "Product", "offers": offers}))
    for path in ("Product.offers.price", "Product.offers"):
        assert at(path, html, "money") == {"amount": "10.00", "currency": "EUR"}


def test_prices_keep_their_digits() -> None:
    """A JSON number is not made a binary fraction on the way."""
    html = page('{"@type": "Product", "offers": {"price": 0.10, "priceCurrency": "EUR"}}')
    assert at("Product.offers.price", html, "money") == {"amount": "0.10", "currency": "EUR"}


def test_microdata_takes_the_value_that_the_standard_names() -> None:
    """`content`, links, dates, text; nested items and properties given twice are followed like JSON-LD."""
    html = """
    <div itemscope itemtype="https://schema.org/Product">
      <meta itemprop="sku" content="A1"><h1 itemprop="name">Desk <b>lamp</b></h1>
      <img itemprop="image" src="/1.jpg"><img itemprop="image" src="/2.jpg">
      <time itemprop="releaseDate" datetime="2024-05-06">May</time>
      <div itemprop="offers" itemscope itemtype="https://schema.org/Offer">
        <span itemprop="price" content="12.00">12</span><link itemprop="availability" href="https://schema.org/InStock">
      </div>
    </div>"""
    assert [at(f"Product.{name}", html, source="microdata") for name in ("sku", "name", "releaseDate")] == [
        "A1",
        "Desk lamp",
        "2024-05-06",
    ]
    assert at("Product.offers.price", html, "money", "microdata") == {"amount": "12.00", "currency": None}
    assert at("Product.offers.availability", html, "availability", "microdata") == "InStock"
    fields = compile_fields({"f": {"microdata": "Product.image", "type": "list", "items": "url"}})
    assert extract(html, URL, fields) == {"f": ["https://shop.example/1.jpg", "https://shop.example/2.jpg"]}


def test_properties_without_an_item_mean_the_product() -> None:
    """Shops that forget `itemscope` are understood."""
    assert at("Product.sku", "<span itemprop=sku>A1</span>", source="microdata") == "A1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["@type", "@graph", "name", "offers", "price", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, st.text(max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_json_is_walked(document: object, noise: str) -> None:
    """Whatever is in a script, every path ends in text or nothing."""
    html = page(json.dumps(document) + noise)
    for path in ("Product.name", "name", "Product.offers.price", "@type", "x.x"):
        assert at(path, html) is None or isinstance(at(path, html), str)
