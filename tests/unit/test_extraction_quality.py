"""How sure a value is, what is left out for doubt, and pages that have no product."""

from __future__ import annotations

import json

import pytest

from bench.pages_without_product import pages
from processors.errors import PipelineError, StepFailed
from processors.extraction.extract import FieldMissing, NoProductPage, Quality, examine, extract
from processors.extraction.fields import FieldError, compile_fields
from processors.steps.parse import Parse, ParseParams
from schemas.record import RecordSchema
from tests.unit.test_parse import PAGE, parsed

URL = "https://shop.example/p/1"
DECLARED = json.dumps(
    {"@type": "Product", "name": "Desk lamp", "offers": {"@type": "Offer", "price": "19.90", "priceCurrency": "EUR"}}
)
LAMP = f'<title>Desk lamp</title><h1>Desk lamp</h1><script type="application/ld+json">{DECLARED}</script>'
ARTICLE = (
    '<title>Lamps in 2024</title><script type="application/ld+json">{"@type": "NewsArticle"}</script><h1>Lamps in 2024</h1>'
    + "<p>In 2019 a lamp cost $19.99; today it is $34.50, and the town buys 12,500 of them for 2.4 million dollars.</p>"
    * 5
)


def test_a_value_says_where_from_and_how_sure() -> None:
    """What is declared and shown too is surest; what only stands in text is not."""
    fields = compile_fields({}, preset="product")
    shown = examine(f"{LAMP}<p class=price>€ 19.90</p>", URL, fields).quality["price"]
    declared = examine(LAMP, URL, fields).quality["price"]
    loose = examine("<title>Desk lamp</title><h1>Desk lamp</h1><p><b>€ 19.90</b></p>", URL, fields).quality["price"]
    assert (shown.source, declared.source, loose.source) == ("jsonld", "jsonld", "text")
    assert shown.sure > declared.sure > loose.sure


def test_what_an_authors_own_selector_finds_is_sure() -> None:
    """Who wrote the selector knows the page."""
    fields = compile_fields({"price": {"css": "b", "type": "money"}}, preset="product", min_quality=0.9)
    assert examine(f"{LAMP}<b>€ 5.00</b>", URL, fields).quality["price"] == Quality("css", 1.0)


@pytest.mark.parametrize(("least", "has_price"), [(None, True), (0.5, True), (0.8, False), (1, False)])
def test_below_the_threshold_a_value_is_left_out(least: float | None, has_price: bool) -> None:
    """`min_quality` of the step holds for every field of the preset."""
    fields = compile_fields({"title": {"min_quality": 0}}, preset="product", min_quality=least)
    values = extract("<title>Desk lamp</title><h1>Desk lamp</h1><p><b>€ 19.90</b></p>", URL, fields)
    assert ("price" in values) is has_price
    assert values["title"] == "Desk lamp"


def test_a_required_field_that_is_unsure_says_so() -> None:
    """The error tells doubt from absence."""
    fields = compile_fields({"price": {"required": True, "min_quality": 0.9}}, preset="product")
    with pytest.raises(FieldMissing, match=r"0\.60 sure, 0\.90 wanted.*not sure enough"):
        extract("<title>Desk lamp</title><h1>Desk lamp</h1><p><b>€ 19.90</b></p>", URL, fields)


@pytest.mark.parametrize("least", [-0.1, 1.5])
def test_a_threshold_is_a_share(least: float) -> None:
    """A percentage given as a number is refused by lint, with what a share is."""
    with pytest.raises(FieldError, match="from 0 .* to 1"):
        compile_fields({}, preset="product", min_quality=least)
    with pytest.raises(PipelineError, match="min_quality"):
        Parse.check(ParseParams(preset="product", min_quality=least))


def test_no_product_page_is_an_answer_of_its_own() -> None:
    """It is told apart from a missing field, by its class and by how its reason begins."""
    with pytest.raises(NoProductPage, match="^no product page: .*NewsArticle") as refused:
        extract(ARTICLE, URL, compile_fields({}, preset="product"))
    assert "NewsArticle" in refused.value.against
    with pytest.raises(StepFailed, match="no product page: "):
        parsed(ARTICLE, preset="product")


def test_an_authors_own_selectors_are_asked_all_the_same() -> None:
    """On a page that the preset takes for another kind, what they find counts."""
    fields = compile_fields({"price": {"css": "p.x", "type": "money"}}, preset="product")
    assert extract(f"{ARTICLE}<p class=x>€ 7</p>", URL, fields)["price"] == {"amount": "7", "currency": "EUR"}
    assert extract(ARTICLE, URL, compile_fields({"title": "h1"})) == {"title": "Lamps in 2024"}


def test_pages_without_a_product_are_given_neither_price_nor_number() -> None:
    """Articles, lists, forums, home pages, in several languages: not one claim."""
    fields = compile_fields({}, preset="product")
    claims = []
    for page in pages():
        try:
            values = extract(page.html, page.url, fields)
        except FieldMissing:
            continue
        claims += [page.name] if {"price", "sku"} & values.keys() else []
    assert claims == []


def test_the_step_tells_quality_in_its_output_and_in_a_record_that_has_a_place_for_it() -> None:
    """Source and sureness in the step's data; in the record's map `quality` the number, or both as text."""
    output = parsed(LAMP, preset="product")
    assert output.data["quality"]["price"] == ["jsonld", 0.9]
    assert output.record["quality"]["price"] == 0.9
    text = json.loads(RecordSchema.load("product").text)
    text["fields"] = [
        {**field, "type": {"type": "map", "values": "string"}} if field["name"] == "quality" else field
        for field in text["fields"]
    ]
    assert parsed(LAMP, json.dumps(text), preset="product").record["quality"]["price"] == "jsonld 0.9"
    assert "quality" not in parsed(PAGE, fields={"title": "h1"}).record


def test_a_record_may_lack_fields_of_the_preset() -> None:
    """Only what the author names has to have its place; the rest is not looked for."""
    text = json.dumps(
        {
            "type": "record",
            "name": "T",
            "fields": [
                {"name": "title", "type": "string"},
                {"name": "sku", "type": ["null", "string"], "default": None},
            ],
        }
    )
    Parse.check_record(ParseParams(preset="product"), RecordSchema.parse(text))
    assert parsed(LAMP, text, preset="product").record == {"title": "Desk lamp"}
    with pytest.raises(PipelineError, match="price not in the record"):
        Parse.check_record(
            ParseParams(preset="product", fields={"price": {"required": True}}), RecordSchema.parse(text)
        )


def test_variants_and_ratings_fit_the_bundled_record() -> None:
    """Each variant has its number, name, price and availability; a rating of ten is brought to five."""
    document = {
        "@type": "ProductGroup",
        "name": "Shirt",
        "aggregateRating": {"ratingValue": 8, "bestRating": 10, "ratingCount": "12"},
        "hasVariant": [
            {
                "@type": "Product",
                "name": f"Shirt {size}",
                "sku": f"S-{size}",
                "offers": {"price": "20", "priceCurrency": "EUR", "availability": stock},
            }
            for size, stock in (("S", "OutOfStock"), ("M", "InStock"))
        ],
    }
    html = f'<h1>Shirt</h1><script type="application/ld+json">{json.dumps(document)}</script>'
    record = parsed(html, preset="product").record
    assert [variant["sku"] for variant in record["variants"]] == ["S-S", "S-M"]
    assert record["variants"][0]["availability"] == "OutOfStock"
    assert (record["rating"], record["reviews"], record["availability"]) == (4.0, 12, "InStock")
