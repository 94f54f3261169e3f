"""Pages that are no product's page though they speak of prices, numbers and goods: what a crawl of shops meets besides.

Each kind is written as sites write it: with menus, baskets, footers, shelves and numbers of every sort; some declare
what they are, most don't. Nothing on them is the price or the number of a product that the page sells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OtherPage:
    """One page, with the name of its kind."""

    name: str
    url: str
    html: str


@dataclass(frozen=True, slots=True)
class _Tongue:
    lang: str
    host: str
    money: str
    cart: str
    buy: str
    sentence: str
    article_number: str


_TONGUES = (
    _Tongue(
        "en", "www.harbour-post.example", "${}", "Basket (0)", "Add to cart",
        "Prices rose by 4.5% in 2023 and the council spent ${} on 12,500 new lamps, Mr Hill said on 14 March 2024; a kettle that cost "
        "$19.99 before the war is $34.50 now, and nobody expects it to fall.", "Item no.",
    ),
    _Tongue(
        "de", "www.hafenblatt.example", "{} €", "Warenkorb (0)", "In den Warenkorb",
        "Die Preise stiegen 2023 um 4,5 %, und die Stadt gab {} € für 12.500 neue Leuchten aus, sagte Herr Berg am 14. März 2024; ein "
        "Kessel, der früher 19,99 € kostete, kostet jetzt 34,50 €, und niemand erwartet, dass er billiger wird.", "Artikelnummer",
    ),
    _Tongue(
        "fr", "www.le-port.example", "{} €", "Panier (0)", "Ajouter au panier",
        "Les prix ont monté de 4,5 % en 2023 et la ville a dépensé {} € pour 12 500 lampes, a dit M. Mont le 14 mars 2024 ; une bouilloire "
        "qui coûtait 19,99 € avant coûte 34,50 € aujourd'hui, et personne ne croit à une baisse.", "Référence",
    ),
    _Tongue(
        "pl", "www.port-gazeta.example", "{} zł", "Koszyk (0)", "Do koszyka",
        "Ceny wzrosły w 2023 roku o 4,5%, a miasto wydało {} zł na 12 500 nowych lamp, powiedział pan Górski 14 marca 2024; czajnik, który "
        "kosztował 19,99 zł, kosztuje teraz 34,50 zł i nikt nie spodziewa się obniżki.", "Indeks",
    ),
    _Tongue(
        "ja", "www.minato.example", "{}円", "カート (0)", "カートに入れる",
        "2023年に物価は4.5％上がり、市は新しい街灯12,500本に{}円を使ったと、2024年3月14日に山田氏は述べた。かつて1,999円だったやかんは今3,450円で、"
        "下がると思う人はいない。市場の声を聞くと、店主たちは来年も同じ傾向が続くと見ている。", "品番",
    ),
)  # fmt: skip
_NAMES = (
    "Copper kettle",
    "Oak table",
    "Wool blanket",
    "Desk lamp Lux 40",
    "Steel pan 28 cm",
    "Garden hose 20 m",
    "Tea set",
    "Trail shoe X2",
)


def pages() -> Iterator[OtherPage]:
    """All pages, the same on every run."""
    for at, tongue in enumerate(_TONGUES):
        for kind, make in _KINDS.items():
            # Kinds that read the same in any language are not repeated in all of them.
            if at > 1 and kind in _TWICE:
                continue
            path, head, body = make(tongue, at)
            yield OtherPage(f"{kind}-{tongue.lang}", f"https://{tongue.host}{path}", _page(tongue, head, body))


def _page(tongue: _Tongue, head: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="{tongue.lang}"><head><meta charset="utf-8">{head}'
        '<script>window.dataLayer=[{"page":"content","id":"884213","price_range":"10-50","sku":null}];</script></head><body>'
        f'<header class="site-header"><a href="/" class="logo">Harbour</a><nav><a href="/c/lamps">Lamps</a><a href="/c/tables">Tables</a>'
        f'<a href="/blog/">Blog</a></nav><div class="mini-cart"><a href="/cart">{tongue.cart}</a> <span class="cart-total">'
        f"{tongue.money.format('0.00')}</span></div></header>{body}<footer><p>Free delivery over {tongue.money.format('50')}. "
        "Tel. +49 30 901820, VAT DE811128135. © 2019-2026 Harbour Ltd, company no. 04558123.</p></footer></body></html>"
    )


def _title(text: str, og: str = "") -> str:
    kind = f'<meta property="og:type" content="{og}">' if og else ""
    return f'<title>{text} | Harbour</title><meta property="og:title" content="{text}">{kind}'


def _ld(document: object) -> str:
    return f'<script type="application/ld+json">{json.dumps(document, ensure_ascii=False)}</script>'


def _prose(tongue: _Tongue, paragraphs: int) -> str:
    return "".join(f"<p>{tongue.sentence.format(f'{840 + 113 * at}')}</p>" for at in range(paragraphs))


def _cards(tongue: _Tongue, count: int, *, buttons: bool = True) -> str:
    button = f'<button class="btn add-to-cart">{tongue.buy}</button>' if buttons else ""
    return "".join(
        f'<li class="product-tile"><a href="/p/{7100 + at}"><img src="/i/{at}.jpg" alt="{name}"><h3>{name}</h3></a>'
        f'<span class="price">{tongue.money.format(f"{19 + 7 * at}.90")}</span><span class="stock">In stock</span>{button}</li>'
        for at, name in enumerate((_NAMES * 3)[:count])
    )


def _news(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    head = _title("Why kettles cost more in 2024", "article") + _ld(
        {
            "@context": "https://schema.org",
            "@type": "NewsArticle",
            "headline": "Why kettles cost more",
            "datePublished": "2024-03-14",
        }
    )
    body = f"<main><article><h1>Why kettles cost more in 2024</h1><time>14.03.2024</time>{_prose(tongue, 6)}</article></main>"
    return "/2024/03/14/why-kettles-cost-more-10482213.html", head, body


def _plain_article(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = (
        f"<div id=content><h1>The long road to 1,000 lamps</h1><div class=meta>3 min · 2,481 views · No. 48213</div>{_prose(tongue, 5)}"
        f"<blockquote><b>{tongue.money.format('1.250')}</b></blockquote><p>{tongue.sentence.format('77')}</p></div>"
    )
    return "/stories/the-long-road-48213", _title("The long road to 1,000 lamps"), body


def _review(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    """A test of a product, with links to shops that sell it."""
    head = _title("Test: Desk lamp Lux 40", "article") + _ld(
        {
            "@type": "Review",
            "name": "Test: Desk lamp Lux 40",
            "itemReviewed": {
                "@type": "Product", "name": "Desk lamp Lux 40", "sku": "DL-40", "offers": {"@type": "Offer", "price": "89.00"},
            },
            "reviewRating": {"@type": "Rating", "ratingValue": "4.5"},
        }
    )  # fmt: skip
    links = "".join(
        f'<a class="affiliate-link" rel="sponsored" href="https://shop{n}.example/x">Shop {n}: {tongue.money.format(f"{79 + n}.00")}</a>'
        for n in range(3)
    )
    body = f"<article><h1>Test: Desk lamp Lux 40</h1>{_prose(tongue, 4)}<div class=where-to-buy>{links}</div>{_prose(tongue, 2)}</article>"
    return "/tests/desk-lamp-lux-40/", head, body


def _guide(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    """The best of five: each with its own price."""
    picks = "".join(
        f"<section><h2>{n + 1}. {name}</h2><p>{tongue.sentence.format(n)}</p><div class=pick-price>{tongue.money.format(f'{39 + n}.00')}</div>"
        f'<a class="button" href="https://shop.example/{n}">Check price</a></section>'
        for n, name in enumerate(_NAMES[:5])
    )
    return (
        "/guides/best-gifts-2024/",
        _title("The 5 best gifts of 2024"),
        f"<main><h1>The 5 best gifts of 2024</h1>{_prose(tongue, 1)}{picks}</main>",
    )


def _category(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = (
        '<main><h1>Lamps</h1><div class="toolbar">128 items · <select><option>Price: low to high</option></select></div>'
        f'<aside class="filters">Price {tongue.money.format(10)} - {tongue.money.format(300)}</aside><ul class="grid">{_cards(tongue, 12)}</ul></main>'
    )
    return "/lamps", _title("Lamps"), body


def _marked_category(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    listed = [
        {
            "@type": "ListItem", "position": n + 1,
            "item": {"@type": "Product", "name": name, "sku": f"H-{7100 + n}", "offers": {"@type": "Offer", "price": 19.9 + n, "priceCurrency": "EUR"}},
        }
        for n, name in enumerate(_NAMES)
    ]  # fmt: skip
    head = _title("Tables and lamps") + _ld({"@type": "ItemList", "itemListElement": listed})
    return (
        "/c/tables-and-lamps?page=2",
        head,
        f"<main><h1>Tables and lamps</h1><ul class=grid>{_cards(tongue, 8)}</ul></main>",
    )


def _microdata_category(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    cards = "".join(
        f'<div class="item" itemscope itemtype="https://schema.org/Product"><a itemprop="url" href="/p/{n}"><span itemprop="name">{name}</span></a>'
        f'<meta itemprop="sku" content="H{n}881"><div itemprop="offers" itemscope itemtype="https://schema.org/Offer">'
        f'<span itemprop="price" content="{20 + n}.00">{tongue.money.format(f"{20 + n}.00")}</span><link itemprop="availability" '
        'href="https://schema.org/InStock"></div></div>'
        for n, name in enumerate(_NAMES)
    )
    return "/outlet/", _title("Outlet"), f"<main><h1>Outlet</h1>{cards}</main>"


def _home(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = (
        f'<main><section class="hero"><h1>Everything for your home</h1><p>Up to 40% off, from {tongue.money.format("9.99")}</p>'
        f'<a class="btn" href="/sale">Shop now</a></section><h2>Deals of the day</h2><ul>{_cards(tongue, 6)}</ul></main>'
    )
    return "/", _title("Harbour, everything for your home", "website"), body


def _about(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = (
        f"<main><h1>About us</h1><p>Founded in 1987 with {tongue.money.format('5.000')}, we have 1,240 people in 14 countries.</p>"
        f"<ul><li>1987: the first shop</li><li>2004: 100 shops</li><li>2019: {tongue.money.format('1.200.000')} for charity</li></ul>"
        "<p>Company no. 04558123 · D-U-N-S 21-486-3915 · ISO 9001:2015</p></main>"
    )
    return "/company", _title("About us"), body


def _contact(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = (
        "<main><h1>Contact</h1><table><tr><td>Phone</td><td>+44 20 7946 0018</td></tr><tr><td>Reference</td><td>please give your order "
        "number, such as 2024-118842</td></tr><tr><td>Post code</td><td>20457</td></tr><tr><td>Code</td><td>AB12</td></tr></table></main>"
    )
    return "/service/contact-form", _title("Contact"), body


def _shipping(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    rows = "".join(
        f"<tr><td>{zone}</td><td class=price>{tongue.money.format(cost)}</td><td>{days} days</td></tr>"
        for zone, cost, days in (
            ("Inland", "4.95", 2),
            ("EU", "9.95", 4),
            ("World", "24.95", 9),
            ("Islands", "14.95", 6),
        )
    )
    return (
        "/help/shipping",
        _title("Delivery and costs"),
        f"<main><h1>Delivery and costs</h1><table class=shipping>{rows}</table>{_prose(tongue, 1)}</main>",
    )


def _forum(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    posts = "".join(
        f'<div class="post" id="post-{88120 + n}"><div class=author>user{n} · Posts: {n * 311 + 7} · #{n + 1}</div><div class=body>{text}</div></div>'
        for n, text in enumerate(
            (
                f"Is {tongue.money.format(200)} a good price for a used Lux 40? Part no. DL-40/2, bought in 2019.",
                f"I paid {tongue.money.format('149.99')} new. SKU 88213 at the usual shop.",
                "They are sold out everywhere.",
                f"<b>{tongue.money.format(120)}</b> and not a cent more",
            )
        )
    )
    return (
        "/viewtopic.php?f=12&t=48213",
        _title("Price of a used Lux 40? - Forum"),
        f"<main><h1>Price of a used Lux 40?</h1>{posts}</main>",
    )


def _question(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    head = _title("How do I change the bulb of a Lux 40?") + _ld(
        {"@type": "QAPage", "mainEntity": {"@type": "Question", "name": "How do I change the bulb?", "answerCount": 2}}
    )
    body = f"<main><h1>How do I change the bulb of a Lux 40?</h1>{_prose(tongue, 1)}<p>A new one is {tongue.money.format('3.20')}.</p></main>"
    return "/questions/48213/change-the-bulb", head, body


def _recipe(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    head = _title("Apple cake") + _ld(
        {"@type": "Recipe", "name": "Apple cake", "aggregateRating": {"ratingValue": 4.6, "reviewCount": 213}}
    )
    body = (
        f"<main><h1>Apple cake</h1><ul><li>500 g flour</li><li>3 eggs</li><li>250 ml milk</li></ul><p>About {tongue.money.format('1.20')} a piece.</p>"
        f"{_prose(tongue, 1)}</main>"
    )
    return "/recipes/apple-cake-1187", head, body


def _job(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    head = _title("Warehouse lead") + _ld(
        {"@type": "JobPosting", "title": "Warehouse lead", "identifier": {"value": "REF-48213"}}
    )
    body = (
        f"<main><h1>Warehouse lead</h1><dl><dt>Reference</dt><dd>REF-48213</dd><dt>Salary</dt><dd>{tongue.money.format('42.000')}</dd></dl>"
        f"{_prose(tongue, 2)}<button>Apply now</button></main>"
    )
    return "/jobs/warehouse-lead-48213", head, body


def _wiki(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = (
        "<main><h1>Harbour Lux</h1><table class=infobox><tr><th>Manufacturer</th><td>Harbour</td></tr><tr><th>Introductory price</th><td>$499 "
        f"(1984)</td></tr><tr><th>Discontinued</th><td>1992</td></tr><tr><th>ISBN</th><td>978-3-16-148410-0</td></tr></table>{_prose(tongue, 6)}</main>"
    )
    return "/wiki/Harbour_Lux", _title("Harbour Lux - Encyclopedia"), body


def _not_found(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = f"<main><h1>404: this page is gone</h1><p>Perhaps you like these:</p><ul class=recommended>{_cards(tongue, 4)}</ul></main>"
    return "/p/99999-old-lamp", _title("404"), body


def _cart(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    rows = "".join(
        f"<tr class=cart-item><td>{name}</td><td>H-{7100 + n}</td><td class=price>{tongue.money.format(f'{19 + n}.90')}</td></tr>"
        for n, name in enumerate(_NAMES[:3])
    )
    body = f"<main><h1>Your basket</h1><table class=cart>{rows}</table><p class=cart-total>Total {tongue.money.format('62.70')}</p><button>Checkout</button></main>"
    return "/cart", _title("Your basket"), body


def _search(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    head = _title("128 results for lamp") + _ld({"@type": "SearchResultsPage", "name": "lamp"})
    return "/search?q=lamp&page=3", head, f"<main><h1>128 results for “lamp”</h1><ul>{_cards(tongue, 10)}</ul></main>"


def _legal(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    body = f"<main><h1>Terms of sale</h1><p>Version 2024-03-01, no. 17/4.</p>{_prose(tongue, 8)}<p>A reminder costs {tongue.money.format('5.00')}.</p></main>"
    return "/legal/terms-2024", _title("Terms of sale"), body


def _event(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    rows = "".join(
        f"<li><time>2026-0{n + 1}-12</time> <b>Workshop {n + 1}</b> <span>{tongue.money.format(25 + 5 * n)}</span> <a href='/e/{n}'>Details</a></li>"
        for n in range(5)
    )
    return "/calendar", _title("Workshops 2026"), f"<main><h1>Workshops 2026</h1><ul class=events>{rows}</ul></main>"


def _rates(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    rows = "".join(
        f"<tr><td>1 EUR</td><td>{rate} {code}</td></tr>"
        for rate, code in ((1.0842, "USD"), (0.8554, "GBP"), (163.21, "JPY"), (11.42, "SEK"))
    )
    body = f"<main><h1>Exchange rates</h1><p>14.03.2024, 16:00</p><table>{rows}</table>{_prose(tongue, 1)}</main>"
    return "/markets/rates", _title("Exchange rates"), body


def _blog(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    """A shop's own blog, with a shelf under the post."""
    body = (
        f'<main><h1>7 ideas for a small kitchen</h1><div class="byline">By Ann Hill, 2024-03-14</div>{_prose(tongue, 5)}'
        f'<section class="related-products"><h2>Seen in this post</h2><ul>{_cards(tongue, 4)}</ul></section></main>'
    )
    return "/journal/7-ideas-for-a-small-kitchen", _title("7 ideas for a small kitchen"), body


def _blog_list(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    posts = "".join(
        f"<article class=teaser><h2>Post {n}</h2><time>2024-03-{10 + n}</time><p>{tongue.sentence.format(n)}</p></article>"
        for n in range(6)
    )
    return "/blog/page/3", _title("Blog"), f"<main><h1>Blog</h1>{posts}</main>"


def _vouchers(tongue: _Tongue, at: int) -> tuple[str, str, str]:
    cards = "".join(
        f'<div class="coupon"><span class="discount">{10 + 5 * n}%</span> <b>Code: SAVE{10 + n}</b> from {tongue.money.format(50 + 10 * n)}</div>'
        for n in range(5)
    )
    return "/vouchers", _title("Voucher codes March 2024"), f"<main><h1>Voucher codes March 2024</h1>{cards}</main>"


_KINDS: dict[str, Callable[[_Tongue, int], tuple[str, str, str]]] = {
    "news": _news, "article": _plain_article, "review": _review, "guide": _guide, "category": _category,
    "marked-category": _marked_category, "microdata-category": _microdata_category, "home": _home, "about": _about, "contact": _contact,
    "shipping": _shipping, "forum": _forum, "question": _question, "recipe": _recipe, "job": _job, "wiki": _wiki, "not-found": _not_found,
    "cart": _cart, "search": _search, "legal": _legal, "event": _event, "rates": _rates, "blog": _blog, "blog-list": _blog_list,
    "vouchers": _vouchers,
}  # fmt: skip
_TWICE = frozenset(
    (
        "contact",
        "wiki",
        "rates",
        "recipe",
        "job",
        "question",
        "search",
        "marked-category",
        "microdata-category",
        "vouchers",
    )
)
