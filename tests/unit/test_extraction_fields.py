"""What a pipeline may write as fields, with the errors for what it may not."""

from __future__ import annotations

import pytest

from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import Field, FieldError, compile_fields

URL = "https://shop.example/de/lamp?id=1"


def found(html: str, **fields: object) -> dict[str, object]:
    return extract(html, URL, compile_fields(fields))


def test_a_plain_string_is_a_css_selector() -> None:
    """The short form takes the text of the first match, white space made plain."""
    assert found("<h1> Desk\n <b>lamp</b></h1><h1>no</h1>", title="h1") == {"title": "Desk lamp"}


def test_text_is_what_a_reader_sees() -> None:
    """Scripts, styles and comments are no text; blocks part words, inline elements don't."""
    html = "<div><b>De</b>sk<script>x</script> <style>y</style><!-- z -->lamp<br>40<p>cm</p>high</div>"
    assert found(html, text="div") == {"text": "Desk lamp 40 cm high"}


def test_pseudo_elements_and_attr_take_what_they_name() -> None:
    """`::text`, `::attr()` and `attr` reach text nodes and attributes."""
    html = '<h1>own <b>inner</b></h1><a href="/x" title="t">link</a>'
    values = found(html, text="h1::text", href="a::attr(href)", title={"css": "a", "attr": "title"})
    assert values == {"text": "own", "href": "/x", "title": "t"}


def test_sources_are_tried_in_the_documented_order() -> None:
    """JSON-LD before microdata before meta before CSS before XPath before regex, however they are written."""
    parts = {
        "jsonld": ('<script type="application/ld+json">{"@type":"Product","name":"1"}</script>', "Product.name"),
        "microdata": (
            '<p itemscope itemtype="https://schema.org/Product"><i itemprop="name">2</i></p>',
            "Product.name",
        ),
        "meta": ('<meta name="title" content="3">', "title"),
        "css": ("<h1>4</h1>", "h1"),
        "xpath": ("<h2>5</h2>", "//h2"),
        "regex": ("<!-- no 6 -->", r"no (\d)"),
    }
    fields = compile_fields({"f": {source: spec for source, (_, spec) in reversed(parts.items())}})
    remaining = [html for html, _ in parts.values()]
    for expected in "123456":
        assert extract("".join(remaining), URL, fields) == {"f": expected}
        remaining.pop(0)


def test_a_list_of_selectors_falls_back() -> None:
    """The first selector whose text can be read as the type wins, not the first that matches."""
    html = "<p class=a>on request</p><p class=b>12,50 €</p>"
    assert found(html, price={"css": [".a", ".b"], "type": "money"}) == {
        "price": {"amount": "12.50", "currency": "EUR"}
    }


def test_a_list_takes_every_match_once() -> None:
    """Lists hold the readable values of the first source that has any, in document order, each once."""
    html = '<img src=1.jpg><img src="/2.jpg"><img src=1.jpg><img src="data:x">'
    values = found(html, images={"css": "img", "attr": "src", "type": "list", "items": "url"})
    assert values == {"images": ["https://shop.example/de/1.jpg", "https://shop.example/2.jpg"]}


def test_an_optional_field_is_left_out_and_a_default_put_in() -> None:
    """Nothing found: no key if optional, the default if there is one, even a null one."""
    fields = {
        "a": {"css": "b", "required": False},
        "b": {"css": "b", "default": []},
        "c": {"css": "b", "default": None},
    }
    assert found("<p>", **fields) == {"b": [], "c": None}


def test_a_missing_field_says_what_was_tried() -> None:
    """The error tells which selectors found nothing, which text could not be read, which other fields are missing."""
    html = f"<p class=p>{'call us ' * 20}</p><script type='application/ld+json'>{{broken</script>"
    fields = compile_fields({"price": {"jsonld": "Product.offers", "css": ".p", "type": "money"}, "sku": ".sku"})
    with pytest.raises(FieldMissing) as caught:
        extract(html, URL, fields)
    assert (caught.value.field, caught.value.also) == ("price", ("sku",))
    assert caught.value.tried[0] == "jsonld Product.offers found nothing (1 JSON-LD script(s) are not JSON)"
    assert caught.value.tried[1].startswith("css .p found 'call us")
    assert caught.value.tried[1].endswith("...', which cannot be read as money")
    assert "required field price" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("h1[", r"field f: css 'h1\['"),
        ({"css": "a:foo"}, "pseudo-class :foo"),
        ({"xpath": "//h1["}, r"field f: xpath '//h1\['"),
        ({"xpath": "//h1[foo()]"}, r"no function foo\(\)"),
        ({"xpath": "//svg:path"}, "no prefix svg:"),
        ({"xpath": "//h1[$x]"}, "no variables"),
        ({"regex": "("}, "not a regular expression"),
        ({"jsonld": "Product/name"}, "not a path"),
        ({"microdata": ""}, "not a path"),
        ({"meta": " "}, "needs the name"),
        ({"css": "p", "type": "moni"}, "types are text, money"),
        ({"cs": "p"}, "unknown field `cs`; keys are css"),
        ({"css": 3}, "got `int`"),
        ({"type": "money"}, "has no source"),
        ({"css": "p", "items": "url"}, "`items` is for `type: list`"),
        ({"css": "p", "type": "list", "items": "list"}, "list of lists"),
        ({"meta": "x", "attr": "href"}, "`attr` needs"),
        ({"css": "p", "currency": "€"}, "not an ISO 4217 code"),
        ({"css": "p", "languages": ["klingon"]}, "language 'klingon'"),
        ({"css": "p", "locale": "xx"}, "locale 'xx'"),
        ({"css": "p", "default": object()}, "not JSON"),
        (None, "field f"),
    ],
)
def test_a_field_that_cannot_work_is_refused_when_it_is_loaded(spec: object, says: str) -> None:
    """The error names the field with its selector, before any page is fetched."""
    with pytest.raises(FieldError, match=says):
        compile_fields({"f": spec})


def test_xpath_may_use_everything_that_is_there() -> None:
    """Functions of XPath, EXSLT and parsel, axes and quoted parentheses pass the check at load."""
    html = "<p class='a b'>x 1 (y)</p>"
    values = found(
        html,
        one={"xpath": "//p[has-class('b')][re:test(., '\\d')]"},
        two={"xpath": "string(//p[contains(., 'foo(') or self::p])"},
        three={"xpath": "count(descendant::p[child::text()])", "type": "integer"},
    )
    assert values == {"one": "x 1 (y)", "two": "x 1 (y)", "three": 1}


def test_a_preset_is_overridden_field_by_field() -> None:
    """null drops a field, a mapping without sources changes it, anything else replaces it."""
    html = '<title>T</title><meta property="og:title" content="Lamp"><b>X1</b>'
    fields = compile_fields({"title": "title", "sku": {"css": "b"}, "price": {"required": True}}, preset="product")
    assert fields.names[:2] == ("title", "price")
    with pytest.raises(FieldMissing, match="field price"):
        extract(html, URL, fields)
    fields = compile_fields({"title": "title", "sku": {"css": "b"}, "price": None}, preset="product")
    assert "price" not in fields.names
    values = extract(html, URL, fields)
    assert (values["title"], values["sku"]) == ("T", "X1")


def test_an_unknown_preset_or_no_fields_at_all_is_an_error() -> None:
    """The error lists the presets, or says that fields are needed."""
    with pytest.raises(FieldError, match="presets: product"):
        compile_fields({}, preset="produkt")
    with pytest.raises(FieldError, match="no fields"):
        compile_fields({})


def test_a_field_may_be_given_as_an_object() -> None:
    """A step written in Python passes Field itself."""
    assert extract("<h1>x</h1>", URL, compile_fields({"f": Field(css="h1")})) == {"f": "x"}
