"""The sample shop's product pages: six layouts, the charset they are sent in and the header that (mis)names it.

Where there is something to select, the visible price, brand, item number and availability carry the classes `price`,
`brand`, `sku` and `stock`; the title is the only `h1`, or `font.title` on the oldest pages.
"""

import json
from dataclasses import dataclass
from html import escape

from processors.demo.shop_products import CharsetHint, Layout, Offer, Product, Stock

LEGACY_COLOURS = {Stock.IN_STOCK: "green", Stock.LIMITED: "#CC6600", Stock.SOLD_OUT: "red"}
OPEN_GRAPH_STOCK = {Stock.IN_STOCK: "instock", Stock.LIMITED: "available for order", Stock.SOLD_OUT: "oos"}


@dataclass(frozen=True, slots=True)
class ShopPage:
    """A page as it goes over the wire, before content encoding."""

    body: bytes
    content_type: str


def page(product: Product, *, priced: bool = True) -> ShopPage:
    """The product's page; without `priced` it names no price at all, not even of another product."""
    html = LAYOUTS[product.layout](product, priced)
    # What the charset lacks (the euro sign in Latin-1) becomes a character reference, as CMSes do.
    return ShopPage(html.encode(product.charset, "xmlcharrefreplace"), _content_type(product))


def _content_type(product: Product) -> str:
    match product.hint:
        case CharsetHint.META:
            return "text/html"
        case CharsetHint.WRONG_HEADER:
            wrong = "ISO-8859-1" if product.charset == "utf-8" else "utf-8"
            return f"text/html; charset={wrong}"
        case CharsetHint.HEADER | CharsetHint.BOTH:
            return f"text/html; charset={product.charset}"


def _charset_tag(product: Product) -> str:
    if product.hint is CharsetHint.HEADER:
        return ""
    if product.layout in (Layout.TABLE, Layout.NESTED):
        return f'<meta http-equiv="Content-Type" content="text/html; charset={product.charset}">'
    return f'<meta charset="{product.charset}">'


def _head(product: Product, extra: str = "") -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="{product.market.lang}">\n<head>\n{_charset_tag(product)}\n'
        f"<title>{escape(product.title)} | Sample Shop</title>\n"
        f'<meta name="description" content="{escape(product.description)}">\n'
        f'<link rel="canonical" href="{product.path}">\n<link rel="stylesheet" href="/static/shop.css">\n{extra}</head>'
    )


def _stock_words(product: Product) -> str:
    market = product.market
    words = {Stock.IN_STOCK: market.in_stock, Stock.LIMITED: market.few_left, Stock.SOLD_OUT: market.sold_out}
    return escape(words[product.stock])


def _price(product: Product, priced: bool) -> str:
    """The visible price; a sale shows the old one first, where a careless parser picks it up."""
    if not priced:
        return f'<span class="ask">{escape(product.market.on_request)}</span>'
    price = f'<span class="price">{escape(product.shown_price)}</span>'
    if product.old_price is None:
        return price
    return f'<del class="old-price">{escape(product.market.amount(product.old_price))}</del> {price}'


def _breadcrumbs(product: Product) -> str:
    return (
        f'<nav class="breadcrumb"><a href="/">{product.market.home}</a> &rsaquo; '
        f'<a href="/c/{escape(product.category)}">{escape(product.category)}</a> &rsaquo; {escape(product.title)}</nav>'
    )


def _images(product: Product) -> str:
    alt = escape(product.title)
    return (
        f'<img src="/img/{product.sku}-1.jpg" alt="{alt}" width="400" height="400">\n'
        f'<img data-src="/img/{product.sku}-2.jpg" alt="" loading="lazy">'
    )


def _related(product: Product, priced: bool) -> str:
    """Other products with their prices: bait for a parser that takes any price."""
    items = "".join(
        f'<li><a href="/s?q={index}">{escape(title)}</a>'
        + (f' <span class="tile-price">{escape(price)}</span>' if priced else "")
        + "</li>"
        for index, (title, price) in enumerate(product.related)
    )
    return f'<aside class="related"><h3>{product.market.related}</h3><ul>{items}</ul></aside>'


def table(product: Product, priced: bool) -> str:
    """A classic template: facts in a two-column table, nothing for machines."""
    price, brand, sku, stock, since = product.market.labels
    tone = "in-stock" if product.in_stock else "out-of-stock"
    return f"""{_head(product)}
<body>
<div id="header"><a href="/"><img src="/img/logo.gif" alt="Sample Shop"></a></div>
{_breadcrumbs(product)}
<h1>{escape(product.title)}</h1>
{_images(product)}
<table class="facts" border="0" cellpadding="4">
<tr><th>{price}:</th><td>{_price(product, priced)}</td></tr>
<tr><th>{brand}:</th><td class="brand">{escape(product.brand)}</td></tr>
<tr><th>{sku}:</th><td class="sku">{product.sku}</td></tr>
<tr><th>EAN:</th><td class="gtin">{product.gtin}</td></tr>
<tr><th>{stock}:</th><td class="stock {tone}">{_stock_words(product)}</td></tr>
<tr><th>{since}:</th><td class="released">{product.market.day(product.released)}</td></tr>
</table>
<p class="description">{escape(product.description)}</p>
{_related(product, priced)}
</body>
</html>
"""


def microdata(product: Product, priced: bool) -> str:
    """Schema.org microdata; every other page leaves the price's machine-readable copy out."""
    offer = ""
    if priced:
        content = f' content="{product.plain_price}"' if product.number % 2 or product.offer is Offer.FREE else ""
        old = product.old_price
        struck = f'<s class="old-price">{escape(product.market.amount(old))}</s> ' if old is not None else ""
        offer = (
            f'<meta itemprop="priceCurrency" content="{product.market.currency}">'
            f'{struck}<span class="price" itemprop="price"{content}>{escape(product.shown_price)}</span>'
        )
    else:
        offer = _price(product, priced)
    return f"""{_head(product)}
<body>
<main itemscope itemtype="https://schema.org/Product">
{_breadcrumbs(product)}
<h1 itemprop="name">{escape(product.title)}</h1>
<img itemprop="image" src="/img/{product.sku}-1.jpg" alt="">
<p>{product.market.labels[1]}: <span class="brand" itemprop="brand" itemscope itemtype="https://schema.org/Brand">\
<span itemprop="name">{escape(product.brand)}</span></span></p>
<p>{product.market.labels[2]} <span class="sku" itemprop="sku">{product.sku}</span>
<meta itemprop="gtin13" content="{product.gtin}">
<meta itemprop="releaseDate" content="{product.released.isoformat()}"></p>
<div itemprop="offers" itemscope itemtype="https://schema.org/Offer">
{offer}
<link itemprop="availability" href="https://schema.org/{product.stock}">
<span class="stock">{_stock_words(product)}</span>
</div>
<div itemprop="description">{escape(product.description)}</div>
</main>
{_related(product, priced)}
</body>
</html>
"""


def _offer_json(product: Product, priced: bool) -> dict[str, object]:
    offer: dict[str, object] = {"@type": "Offer", "url": product.path}
    if priced and product.offer is Offer.STARTING_AT:
        offer |= {"@type": "AggregateOffer", "lowPrice": product.plain_price, "offerCount": len(product.related) + 1}
        offer["priceCurrency"] = product.market.currency
    elif priced and product.number % 2:
        offer |= {"price": product.plain_price, "priceCurrency": product.market.currency}
    elif priced:
        # Numbers, with the trailing zeros lost, are as common as strings.
        offer |= {"price": float(product.price), "priceCurrency": product.market.currency}
    availability = "https://schema.org/" if product.number % 3 else "http://schema.org/"
    return offer | {"availability": availability + product.stock, "itemCondition": "https://schema.org/NewCondition"}


def _product_json(product: Product, priced: bool) -> dict[str, object]:
    return {
        "@type": "Product",
        "name": product.title,
        "image": [f"/img/{product.sku}-1.jpg", f"/img/{product.sku}-2.jpg"],
        "description": product.description,
        "sku": product.sku,
        "gtin13": product.gtin,
        "releaseDate": product.released.isoformat(),
        "brand": {"@type": "Brand", "name": product.brand} if product.number % 4 else product.brand,
        "offers": _offer_json(product, priced),
    }


def _script(document: object, charset: str) -> str:
    """A JSON-LD block that the charset can carry: a character reference in a script would never be resolved."""
    text = json.dumps(document, ensure_ascii=False, indent=1).replace("</", "<\\/")
    carried = "".join(sign if _encodable(sign, charset) else f"\\u{ord(sign):04x}" for sign in text)
    return f'<script type="application/ld+json">\n{carried}\n</script>\n'


def _encodable(sign: str, charset: str) -> bool:
    try:
        sign.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def json_ld(product: Product, priced: bool) -> str:
    """A single-page application: an empty shell, the facts in one JSON-LD block."""
    script = _script({"@context": "https://schema.org"} | _product_json(product, priced), product.charset)
    return f"""{_head(product, script)}
<body>
<div id="root"></div>
<noscript>JavaScript is required.</noscript>
<script src="/static/app.js" defer></script>
</body>
</html>
"""


def json_ld_graph(product: Product, priced: bool) -> str:
    """A CMS plugin's @graph: the product among the page, the site and the breadcrumbs, after a broken block."""
    crumbs = [
        {"@type": "ListItem", "position": position, "name": name}
        for position, name in enumerate((product.market.home, product.category, product.title), start=1)
    ]
    graph = [
        {"@type": "WebSite", "@id": "/#website", "url": "/", "name": "Sample Shop"},
        {"@type": "ItemPage", "@id": product.path, "name": f"{product.title} | Sample Shop"},
        {"@type": "BreadcrumbList", "itemListElement": crumbs},
        _product_json(product, priced) | {"@type": ["Product", "IndividualProduct"]},
    ]
    broken = '<script type="application/ld+json">{"@type": "Organization", "name": "Sample Shop",}</script>\n'
    script = _script({"@context": "https://schema.org", "@graph": graph}, product.charset)
    return f"""{_head(product, broken + script)}
<body>
{_breadcrumbs(product)}
<h1 class="entry-title">{escape(product.title)}</h1>
{_images(product)}
<p>{_price(product, priced)}</p>
<p class="stock">{_stock_words(product)}</p>
<div class="entry-content"><p>{escape(product.description)}</p></div>
{_related(product, priced)}
</body>
</html>
"""


def meta(product: Product, priced: bool) -> str:
    """OpenGraph and product meta tags for social networks, over a page that shows little."""
    tags = [
        ("og:type", "product"),
        ("og:title", product.title),
        ("og:description", product.description),
        ("og:image", f"/img/{product.sku}-1.jpg"),
        ("og:url", product.path),
        ("product:brand", product.brand),
        ("product:retailer_item_id", product.sku),
        ("product:availability", OPEN_GRAPH_STOCK[product.stock]),
        ("product:category", product.category),
    ]
    if priced:
        tags += [("product:price:amount", product.plain_price), ("product:price:currency", product.market.currency)]
    lines = "".join(f'<meta property="{name}" content="{escape(value)}">\n' for name, value in tags)
    return f"""{_head(product, lines)}
<body class="product-template">
{_breadcrumbs(product)}
<h1>{escape(product.title)}</h1>
{_images(product)}
<div class="buy-box">{_price(product, priced)}
<button{"" if product.in_stock else " disabled"}>{_stock_words(product)}</button></div>
<section>{escape(product.description)}</section>
{_related(product, priced)}
</body>
</html>
"""


def nested(product: Product, priced: bool) -> str:
    """Tables in tables, upper case, unquoted attributes, tags left open or closed in the wrong order."""
    price, brand, sku, stock, since = product.market.labels
    old = f"<STRIKE>{product.market.amount(product.old_price)}</STRIKE>&nbsp;" if product.old_price is not None else ""
    shown = (
        f"{old}<FONT CLASS=price COLOR=red SIZE=4><B>{escape(product.shown_price)}</FONT></B>"
        if priced
        else escape(product.market.on_request)
    )
    return f"""<HTML>
<HEAD>{_charset_tag(product)}
<TITLE>Sample Shop - {escape(product.title)}</TITLE></HEAD>
<BODY BGCOLOR=#FFFFFF TEXT=black>
<CENTER><TABLE WIDTH=760 BORDER=0><TR><TD VALIGN=top WIDTH=150>
<TABLE><TR><TD><A HREF=/>{product.market.home}</A><TR><TD>
<A HREF="/c/{escape(product.category)}">{product.category}</A></TABLE>
<TD><FONT CLASS=title SIZE=5><B>{escape(product.title)}</FONT></B><BR>
<IMG SRC=/img/{product.sku}-1.jpg ALT='' ALIGN=left>
<TABLE CELLPADDING=3>
<TR><TD><B>{price}:</B><TD>{shown}
<TR><TD><B>{brand}:<TD></B><FONT CLASS=brand>{escape(product.brand)}</FONT>
<TR><TD><B>{sku}:</B></TD><TD><TT CLASS=sku>{product.sku}</TT>
<TR><TD><B>{stock}:</B><TD><FONT CLASS=stock COLOR={LEGACY_COLOURS[product.stock]}>{_stock_words(product)}</FONT>
<TR><TD><B>{since}:</B><TD>{product.market.day(product.released)}
</TABLE>
<P>{escape(product.description)}
<P><I>EAN {product.gtin}</TABLE></I></CENTER>
</BODY>
"""


LAYOUTS = {
    Layout.TABLE: table,
    Layout.MICRODATA: microdata,
    Layout.JSON_LD: json_ld,
    Layout.JSON_LD_GRAPH: json_ld_graph,
    Layout.META: meta,
    Layout.NESTED: nested,
}
