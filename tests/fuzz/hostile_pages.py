"""Pages made to take long: each a function from a size in characters to a page of about that size."""

from __future__ import annotations

import json
from collections.abc import Callable

Maker = Callable[[int], str]


def _fill(piece: str, size: int) -> str:
    return piece * max(1, size // len(piece))


def _numbered(form: str, size: int) -> str:
    """The form with running numbers in it, as often as the size takes."""
    return "".join(form.replace("%", str(number)) for number in range(max(1, size // (len(form) + 4))))


def _script(text: str) -> str:
    return f'<script type="application/ld+json">{text}</script><h1>x</h1>'


def _nested(opened: str, closed: str, inside: str, size: int) -> str:
    depth = max(1, size // (len(opened) + len(closed)))
    return opened * depth + inside + closed * depth


def _chain(size: int) -> str:
    """JSON-LD nodes, each of which names the next by its @id; the last names the first."""
    count = max(2, size // 70)
    nodes = [
        {"@id": f"#{at}", "@type": "Product", "offers": {"@id": f"#{(at + 1) % count}"}, "brand": {"@id": f"#{at}"}}
        for at in range(count)
    ]
    return _script(json.dumps({"@graph": nodes}))


def _fan(size: int) -> str:
    """One node that many products name by its @id, itself holding a list of all of them."""
    count = max(2, size // 90)
    products = [
        {"@id": f"#{at}", "@type": "Product", "name": f"{at}", "offers": {"@id": "#all"}} for at in range(count)
    ]
    return _script(
        json.dumps({"@graph": [*products, {"@id": "#all", "offers": [{"@id": f"#{at}"} for at in range(count)]}]})
    )


def _itemrefs(size: int) -> str:
    """Items that all refer to all others, in circles."""
    count = max(2, int((size / 12) ** 0.5))
    names = " ".join(f"i{at}" for at in range(count))
    return "".join(
        f'<div itemscope itemtype="http://schema.org/Product" id=i{at} itemref="{names}"><p itemprop=name>x</p></div>'
        for at in range(count)
    )


PAGES: dict[str, Maker] = {
    # JSON-LD that is no JSON.
    "script of newlines": lambda n: _script("{" + "\n" * n),
    "script of blank lines and slashes": lambda n: _script("{" + _fill("\n / ", n)),
    "script of line comments": lambda n: _script("{" + _fill("\n // x", n)),
    "script of opened comments": lambda n: _script("{" + _fill("/*", n)),
    "script of closing comments": lambda n: _script("{" + _fill("/* */ ", n)),
    "script of commas": lambda n: _script("[" + "," * n),
    "script of commas and spaces": lambda n: _script("[" + _fill(",      ", n)),
    "script of a comma and spaces": lambda n: _script("[1," + " " * n + "x"),
    "script of quotes": lambda n: _script("[" + '"' * (n | 1)),
    "script of escapes": lambda n: _script('["' + "\\" * n),
    "script of bad escapes": lambda n: _script('["' + _fill("\\x", n)),
    "script of surrogates": lambda n: _script('["' + _fill("\\ud800", n) + '"]'),
    "script of entities": lambda n: _script("{" + _fill("&quot;a&quot;:", n)),
    "script of ampersands": lambda n: _script("{" + "&" * n),
    "script of semicolons": lambda n: _script(";" * n + "x"),
    "script of spaces": lambda n: _script(" " * n + "x"),
    # JSON-LD that is JSON.
    "deep lists": lambda n: _script("[" * (n // 2) + "]" * (n // 2)),
    "shallow objects in lists": lambda n: _script("[" + ",".join(["[[[[{}]]]]"] * (n // 11)) + "]"),
    "deep objects": lambda n: _script('{"offers":' * (n // 11) + "1" + "}" * (n // 11)),
    "empty objects": lambda n: _script("[" + ",".join(["{}"] * (n // 3)) + "]"),
    "empty products": lambda n: _script("[" + ",".join(['{"@type":"Product"}'] * (n // 20)) + "]"),
    "documents in a row": lambda n: _script(_fill("{} ", n)),
    "many scripts": lambda n: _fill(_script('{"@type":"Product","name":"x"}'), n),
    "many broken scripts": lambda n: _fill(_script('{"@type":"Product"'), n),
    "huge integer": lambda n: _script('{"@type":"Product","sku":' + "9" * n + "}"),
    "huge fraction": lambda n: _script('{"@type":"Product","offers":{"price":0.' + "9" * n + "}}"),
    "many big integers": lambda n: _script("[" + ",".join(["9" * 4000] * (n // 4001 or 1)) + "]"),
    "huge exponents": lambda n: _script(
        '{"@type":"Product","offers":{"price":[' + ",".join(["1e999999"] * (n // 9)) + "]}}"
    ),
    "types of many slashes": lambda n: _script('{"@type":"' + "/" * n + '"}'),
    "many types": lambda n: _script('{"@type":[' + ",".join(['"Product"'] * (n // 10)) + "]}"),
    "graphs in graphs": lambda n: _script('{"@type":"Product","@graph":' * (n // 30) + "1" + "}" * (n // 30)),
    "circle of ids": _chain,
    "fan of ids": _fan,
    "long key": lambda n: _script('{"' + "a" * n + '":1}'),
    # Elements.
    "paragraphs": lambda n: _fill("<p>x", n),
    "paragraphs after a heading": lambda n: "<h1>x</h1>" + _fill("<p>a 1,</p>", n),
    "empty elements": lambda n: _fill("<b></b>", n),
    "line breaks": lambda n: "<h1>" + _fill("<br>", n),
    "end tags": lambda n: _fill("</p>", n),
    "deep divs": lambda n: _nested("<div>", "</div>", "x", n),
    "deep stock": lambda n: _nested("<div class=stock>", "</div>", "in stock", n),
    "deep price": lambda n: _nested("<div class=price>", "</div>", "<p>$5", n),
    "deep headings": lambda n: _nested("<h1>", "</h1>", "x", n),
    "deep titles": lambda n: _nested("<svg><title>", "</title></svg>", "x", n),
    "deep items": lambda n: _nested("<div itemscope itemprop=offers>", "</div>", "<p itemprop=price>5", n),
    "deep properties": lambda n: _nested("<div itemprop=name>", "</div>", "x", n),
    "deep lists of HTML": lambda n: _nested("<ul><li>", "</li></ul>", "x", n),
    "deep tables": lambda n: _nested("<table><tr><td>", "</td></tr></table>", "x", n),
    "wide stock": lambda n: "<h1>x</h1>" + _fill("<p class=stock>in stock</p>", n),
    "wide price": lambda n: "<h1>x</h1>" + _fill("<p class=price>1 000</p>", n),
    "wide brand": lambda n: "<h1>x</h1>" + _fill("<p class=brand>a</p>", n),
    "wide sku": lambda n: "<h1>x</h1>" + _fill("<p class=sku>a1</p>", n),
    "stock without words": lambda n: _fill("<p class=stock><b>", n),
    "price above long text": lambda n: _fill("<p class=price>", n // 2) + _fill("<i>ab ", n // 2),
    "classes without end": lambda n: _numbered("<p class='price c% d%'>5", n),
    "long class": lambda n: _fill(f"<p class='price {'ab ' * 5000}'>$5</p>", n),
    "one long class": lambda n: f"<p class='price {'a-' * (n // 2)}'>$5</p>",
    "one long id": lambda n: f"<h1>x</h1><p class=price id='{'add' * (n // 3)}'>$5</p>",
    "many properties": lambda n: "<div itemscope>" + _numbered("<p itemprop=p%>x</p>", n),
    "one property": lambda n: "<div itemscope itemtype=http://schema.org/Product>" + _fill("<p itemprop=name>x</p>", n),
    "property of many names": lambda n: f"<div itemscope><p itemprop='{_numbered('a% ', n)}'>x</p></div>",
    "circles of itemref": _itemrefs,
    "itemref of many names": lambda n: f"<div itemscope itemref='{_numbered('a% ', n)}'></div>",
    "buttons": lambda n: "<h1>x</h1>" + _fill("<button>a</button>", n),
    "buttons of long words": lambda n: _fill(f"<button class='{'add-to-' * 1000}'>a</button>", n),
    "buttons in buttons": lambda n: _nested("<a class=x>", "</a>", "x", n),
    "data of prices": lambda n: _fill("<p data-price=x>", n),
    "metas": lambda n: _numbered("<meta name=m% content=x>", n),
    "one meta": lambda n: _fill("<meta name=og:image content=x>", n),
    "headings": lambda n: _fill("<h1>x</h1>", n),
    "scripts in line": lambda n: _fill("<script>a</script>", n),
    "tables": lambda n: _fill("<table><td>", n),
    "forms": lambda n: _fill("<form action=x>", n),
    "misnested": lambda n: _fill("<b><p><i></b>", n),
    "misnested anchors": lambda n: _fill("<a href=x><div></a>", n),
    "unknown elements": lambda n: _numbered("<x%>", n),
    # Attributes.
    "attributes": lambda n: f"<p {_numbered('a%=1 ', n)}>x</p>",
    "same attribute": lambda n: f"<p {_fill('a=1 ', n)}>x</p>",
    "bare attributes": lambda n: f"<p {_numbered('a% ', n)}>x</p>",
    "attributes of html": lambda n: _numbered("<html a%=1>", n),
    "attributes of body": lambda n: _numbered("<body a%=1>", n),
    "huge attribute": lambda n: f"<p class='price' title='{'x' * n}'>$5</p>",
    "huge link": lambda n: f"<base href='{'a/' * (n // 2)}'><h1>x</h1>",
    "huge content": lambda n: f"<meta property=og:title content='{'a ' * (n // 2)}'>",
    # Text.
    "million-word title": lambda n: "<title>" + _fill("word ", n) + "</title><h1>word</h1>",
    "million-word heading": lambda n: "<title>word</title><h1>" + _fill("word ", n) + "</h1>",
    "words that differ": lambda n: "<title>" + _numbered("w% ", n) + "</title><h1>w1 w2</h1>",
    "brands of a long title": lambda n: (
        "<title>" + _fill("ab ", n // 2) + "</title>" + _fill("<p class=brand>abab</p>", n // 2)
    ),
    "one line": lambda n: "x" * n,
    "spaces": lambda n: "<p>" + " " * n + "x",
    "digits": lambda n: "<h1>x</h1><p class=price>" + "1" * n,
    "digits and dots": lambda n: "<h1>x</h1><p class=price>" + "1." * (n // 2),
    "digits and spaces": lambda n: "<h1>x</h1><p>" + "1 " * (n // 2) + "</p>",
    "letters and dollars": lambda n: "<h1>x</h1><p>" + "A$" * (n // 2) + "</p>",
    "entities": lambda n: "<p>" + _fill("&amp;", n),
    "numeric entities": lambda n: "<p>" + _fill("&#x1F600;", n),
    "broken entities": lambda n: "<p>" + _fill("&a", n),
    "one long entity": lambda n: "<p>&" + "a" * n,
    "angle brackets": lambda n: "<" * n,
    "opened tags": lambda n: _fill("<p", n),
    "opened comments": lambda n: _fill("<!--", n),
    "comments": lambda n: _fill("<!---->", n),
    "declarations": lambda n: _fill("<!x", n),
    "instructions": lambda n: _fill("<?x", n),
    "closing brackets": lambda n: "</" * (n // 2),
    "opened scripts": lambda n: _fill("<script>", n),
    "scripts without end": lambda n: _fill("<script></scrip", n),
    "opened textarea": lambda n: "<textarea>" + _fill("</text", n),
    "nulls": lambda n: "<p>" + "\x00" * n,
    "labels": lambda n: "<h1>x</h1>" + _fill("<td>sku:</td>", n),
    "labels with separators": lambda n: "<h1>x</h1>" + _fill("<td>sku:<td>: ", n),
    "labels of spaces": lambda n: "<h1>x</h1>" + _fill("<td>artikel" + "-" * 290, n),
    "labels of hyphens": lambda n: "<h1>x</h1>" + _fill("<td>" + "-" * 299, n),
    # What scripts say.
    "script of keys": lambda n: "<script>" + _fill('"sku":"a', n) + "</script>",
    "script of key and spaces": lambda n: '<script>"sku"' + " " * n + "</script>",
    "script of keys and spaces": lambda n: "<script>" + _fill('"price"' + " " * 1000, n) + "</script>",
    "script of braces": lambda n: "<script>" + _fill('"brand":{', n) + "</script>",
    "script of availability": lambda n: "<script>" + _fill('"availability":"', n) + "</script>",
    "script of a key and brackets": lambda n: '<script>"ean":' + " " * n + "</script>",
    "script of lists": lambda n: '<script>"ean":[' + " " * n + "</script>",
    "name in lists": lambda n: _script(
        '{"@type":"Product","name":' + "[" * 900 + '"' + "x" * n + '"' + "]" * 900 + "}"
    ),
    "addresses": lambda n: f"<base href='/{'a/' * 2000}'>" + _fill("<img src=../x class=price>", n),
    "links in metas": lambda n: _fill("<meta property=og:image content='../../x'>", n),
    "dates": lambda n: _fill("<p>3. Mai 20", n),
    "many words": lambda n: "<p>" + _fill("abc ", n),
    "script of brackets": lambda n: "<script>" + _fill('"ean":[ ', n) + "</script>",
}


def _address(count: int) -> str:
    return (
        "https://shop.example/"
        + "/".join(["-".join("1234567" for _ in range(count))] * 3)
        + "?sku="
        + "-".join(f"{at:07}" for at in range(count))
    )


#: Addresses made to take long, with pages on which they are looked for.
ADDRESSES: dict[str, Maker] = {
    "numbers": lambda n: _address(n // 8),
    "letters": lambda n: "https://shop.example/" + "A" * n,
    "letters and digits": lambda n: "https://shop.example/" + "A1" * (n // 2),
    "many arguments": lambda n: "https://shop.example/?" + "&".join(f"id{at}={at:07}" for at in range(n // 20)),
    "many slashes": lambda n: "https://shop.example/" + "/" * n,
    "escapes": lambda n: "https://shop.example/" + "%31" * (n // 3),
    "dots": lambda n: "https://shop.example/" + "../" * (n // 3),
}

#: Bodies made to take long before they are parsed, in Latin-1.
BODIES: dict[str, Maker] = {
    "comments": lambda n: "refresh" + _fill("<!--", n),
    "metas": lambda n: _fill("<meta http-equiv=refresh content='0 ", n),
    "one meta": lambda n: "<meta http-equiv=refresh content='" + "0" * n,
    "meta of charsets": lambda n: "<meta http-equiv=content-type content='" + _fill("charset ", n),
    "metas without names": lambda n: _fill("<meta =", n),
    "attributes": lambda n: "<meta " + _numbered("a% ", n) + "refresh",
    "equals": lambda n: "<meta refresh" + "=" * n,
    "quotes": lambda n: "<meta refresh a=" + "'\"" * (n // 2),
    "scripts": lambda n: "refresh" + _fill("<script>", n),
    "brackets": lambda n: "refresh" + "<" * n,
    "spaces": lambda n: "<meta refresh" + " " * n,
    "declaration": lambda n: "<?xml" + " encoding" * (n // 9),
    "half characters": lambda n: "\x81" * n,
    "bytes that are none": lambda n: "\xff" * n,
}

#: Content types made to take long.
HEADERS: dict[str, Maker] = {
    "semicolons": lambda n: "text/html" + ";" * n,
    "spaces": lambda n: "text/html;" + " " * n,
    "charsets": lambda n: "text/html" + ";charset=" * (n // 9),
    "quotes": lambda n: "text/html;charset=" + '"' * n,
}
