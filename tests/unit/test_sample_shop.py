"""The sample shop keeps its word: pages say what `truth` says, and each kind misbehaves as named, over real HTTP."""

# ruff: noqa: RUF001 - letters of other scripts are the point here

import codecs
import json
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from parsel import Selector

from processors.demo.sample_servers import SampleServers, SampleServersFailed
from processors.demo.shop import BOMB_BYTES
from processors.demo.shop_markets import MARKETS
from processors.demo.shop_pages import page
from processors.demo.shop_products import (
    FAULTY_KINDS,
    REASONS,
    CharsetHint,
    Layout,
    Offer,
    Product,
    ProductCatalogue,
    ProductKind,
)

SEED = 11
PRODUCTS = 400
CATALOGUE = ProductCatalogue(SEED, PRODUCTS, fault_rate=0.5)
NUMBERS = range(1, PRODUCTS + 1)
ENOUGH_TRIES = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleServers]:
    """One running world for all tests here; each test takes products of its own."""
    with SampleServers(
        tmp_path_factory.mktemp("world"), seed=SEED, products=PRODUCTS, fault_rate=0.5, slow_seconds=0.3
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client that follows nothing and retries nothing."""
    with httpx.Client(timeout=10) as opened:
        yield opened


def of_kind(kind: ProductKind, which: int = 0) -> int:
    """The number of some product of this kind."""
    return [number for number in NUMBERS if CATALOGUE.kind(number) is kind][which]


def answers(client: httpx.Client, url: str) -> bool:
    """Whether anybody listens there."""
    try:
        client.get(url)
    except httpx.TransportError:
        return False
    return True


def machine_price(product: Product, html: Selector) -> str | None:
    """The price as the page's machine-readable part has it, if there is one."""
    match product.layout:
        case Layout.JSON_LD | Layout.JSON_LD_GRAPH:
            blocks = html.css('script[type="application/ld+json"]::text').getall()
            document = json.loads(blocks[-1])
            found = next(item for item in document.get("@graph", [document]) if "Product" in item["@type"])
            offer = found["offers"]
            return str(offer.get("price", offer.get("lowPrice")))
        case Layout.META:
            return html.css('meta[property="product:price:amount"]::attr(content)').get()
        case Layout.MICRODATA:
            return html.css('[itemprop="price"]::attr(content)').get()
        case Layout.TABLE | Layout.NESTED:
            return None


def test_seed_decides_everything() -> None:
    """Two catalogues of one seed are the same shop; another seed is another shop."""
    again, other = ProductCatalogue(SEED, PRODUCTS, 0.5), ProductCatalogue(SEED + 1, PRODUCTS, 0.5)
    assert [CATALOGUE.product(n) for n in NUMBERS] == [again.product(n) for n in NUMBERS]
    assert [CATALOGUE.kind(n) for n in NUMBERS] == [again.kind(n) for n in NUMBERS]
    assert [CATALOGUE.truth(n) for n in NUMBERS] != [other.truth(n) for n in NUMBERS]
    assert [CATALOGUE.kind(n) for n in NUMBERS] != [other.kind(n) for n in NUMBERS]


def test_first_product_is_the_same_in_every_version() -> None:
    """The seed's meaning is pinned: results that users recorded with an older version stay comparable."""
    assert ProductCatalogue(1, 10).truth(1, "http://shop") == {
        "title": "远山户外 手摇咖啡研磨机 EG-583",
        "price": "654.80",
        "currency": "CNY",
        "in_stock": False,
        "sku": "EG583-00001",
        "brand": "远山户外",
        "url": "http://shop/p/1",
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_occurs_in_a_hundred_products(seed: int) -> None:
    """However low the fault rate, as long as there is one, no kind is missing from 100 products."""
    small = ProductCatalogue(seed, 100, fault_rate=0.01)
    assert {small.kind(number) for number in range(1, 101)} == set(ProductKind)


def test_fault_rate_is_a_share() -> None:
    """Half of the products misbehave at a rate of 0.5, spread evenly over the kinds, none at 0."""
    kinds = Counter(CATALOGUE.kind(number) for number in NUMBERS)
    assert kinds[ProductKind.NORMAL] == PRODUCTS // 2
    assert {kinds[kind] for kind in FAULTY_KINDS} == {12, 13}
    calm = ProductCatalogue(SEED, PRODUCTS)
    assert {calm.kind(number) for number in NUMBERS} == {ProductKind.NORMAL}


def test_variety() -> None:
    """Every layout, charset, hint, offer and currency occurs."""
    products = [CATALOGUE.product(number) for number in NUMBERS]
    assert {product.layout for product in products} == set(Layout)
    assert {product.hint for product in products} == set(CharsetHint)
    assert {product.offer for product in products} == set(Offer)
    assert {product.charset for product in products} == {"utf-8", "windows-1251", "shift_jis", "iso-8859-1", "gbk"}
    assert {product.market.currency for product in products} == {market.currency for market in MARKETS}
    assert len({product.sku for product in products}) == PRODUCTS


@pytest.mark.parametrize(
    ("lang", "amount", "shown"),
    [
        ("en-US", "1299.00", "$1,299.00"),
        ("en-GB", "1299.50", "£1,299.50"),
        ("de-DE", "1299.00", "1.299,00\u00a0€"),
        ("fr-FR", "1299.90", "1\u00a0299,90\u00a0€"),
        ("pl-PL", "1299.00", "1\u00a0299,00\u00a0zł"),
        ("ru-RU", "129900", "129\u00a0900\u00a0руб."),
        ("ja-JP", "12800", "￥12,800"),
        ("zh-CN", "1299.00", "1299.00元"),
        ("de-CH", "1299.00", "CHF 1'299.-"),
        ("de-CH", "1299.95", "CHF 1'299.95"),
        ("en-IN", "129900.00", "₹1,29,900.00"),
        ("en-IN", "12999900.00", "₹1,29,99,900.00"),
        ("en-IN", "999.50", "₹999.50"),
    ],
)
def test_number_formats(lang: str, amount: str, shown: str) -> None:
    """Each market prints amounts in its own way."""
    market = next(market for market in MARKETS if market.lang == lang)
    assert market.amount(Decimal(amount)) == shown


def test_pages_say_what_truth_says() -> None:
    """Title, price, number and brand of every page, read with its true charset, are those of the truth."""
    for number in NUMBERS:
        product, truth = CATALOGUE.product(number), CATALOGUE.truth(number)
        html = Selector(page(product).body.decode(product.charset))
        everything = html.get()
        visible = html.css("h1, font.title")
        if product.layout is not Layout.JSON_LD:
            assert visible.xpath("string()").get() == truth["title"], number
        assert truth["sku"] in everything, number
        assert html.xpath("//title").re_first("Sample Shop"), number
        price = machine_price(product, html)
        if price is not None:
            assert Decimal(price) == Decimal(truth["price"]), number
        if product.layout in (Layout.TABLE, Layout.NESTED):
            assert html.css(".price").xpath("string()").get() == product.shown_price, number
            assert html.css(".sku::text").get() == truth["sku"], number
            assert html.css(".brand::text").get() == truth["brand"], number


def test_availability_is_machine_readable_where_the_layout_has_a_place_for_it() -> None:
    """Schema.org availability and OpenGraph's agree with `in_stock`."""
    for number in NUMBERS:
        product = CATALOGUE.product(number)
        text = page(product).body.decode(product.charset)
        if product.layout in (Layout.JSON_LD, Layout.JSON_LD_GRAPH, Layout.MICRODATA):
            assert ("schema.org/OutOfStock" in text) is not product.in_stock, number
        elif product.layout is Layout.META:
            assert ('content="oos"' in text) is not product.in_stock, number


def test_wrong_header_contradicts_the_bytes() -> None:
    """A header that lies can be found out: the bytes aren't what it says, or are valid UTF-8 that it denies."""
    lying = [p for p in map(CATALOGUE.product, NUMBERS) if p.hint is CharsetHint.WRONG_HEADER]
    assert lying
    for product in lying:
        sent = page(product)
        named = sent.content_type.partition("charset=")[2]
        assert codecs.lookup(named) != codecs.lookup(product.charset)
        assert product.charset.encode() in sent.body
        if named == "utf-8":
            with pytest.raises(UnicodeDecodeError):
                sent.body.decode(named)
        else:
            assert not sent.body.isascii()
            sent.body.decode("utf-8")


def test_charset_is_named_somewhere() -> None:
    """Each page names its charset in the header, the page or both, as its hint says."""
    for number in NUMBERS:
        product = CATALOGUE.product(number)
        sent = page(product)
        in_header = f"charset={product.charset}" in sent.content_type
        in_page = product.charset.encode() in sent.body[:300]
        expected = {
            CharsetHint.HEADER: (True, False),
            CharsetHint.META: (False, True),
            CharsetHint.BOTH: (True, True),
            CharsetHint.WRONG_HEADER: (False, True),
        }
        assert (in_header, in_page) == expected[product.hint], number


def test_page_without_price_names_none() -> None:
    """Not even a neighbour's price is left for a careless parser to pick up."""
    for number in NUMBERS:
        product = CATALOGUE.product(number)
        html = page(product, priced=False).body.decode(product.charset)
        assert product.plain_price not in html or product.offer is Offer.FREE
        prices = [product.market.amount(product.price), *(price for _, price in product.related)]
        assert not any(price in html for price in prices), number
        assert "price:amount" not in html
        assert "lowPrice" not in html
        assert 'itemprop="price"' not in html


def test_pages_are_small() -> None:
    """No page is above 5 KB, so that ten thousand of them are quickly scraped."""
    assert max(len(page(CATALOGUE.product(number)).body) for number in NUMBERS) < 5000


def test_unknown_product_is_an_error() -> None:
    """Asking for a product that isn't sold names the range."""
    with pytest.raises(ValueError, match="the shop sells 1 to 400"):
        CATALOGUE.truth(401)
    with pytest.raises(ValueError, match="at least one"):
        ProductCatalogue(1, 0)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        ProductCatalogue(1, 1, 1.5)


def test_normal_pages_arrive_as_made(world: SampleServers, client: httpx.Client) -> None:
    """A normal product's page comes whole, with its content type, gzipped for clients that accept it."""
    encodings = set()
    for number in [n for n in NUMBERS if CATALOGUE.kind(n) is ProductKind.NORMAL][:40]:
        product = CATALOGUE.product(number)
        answer = client.get(world.url(number))
        plain = client.get(world.url(number), headers={"Accept-Encoding": "identity"})
        assert (answer.status_code, answer.content) == (200, page(product).body)
        assert (plain.content, plain.headers.get("content-encoding")) == (answer.content, None)
        assert answer.headers["content-type"] == page(product).content_type
        encodings.add(answer.headers.get("content-encoding"))
    assert encodings == {None, "gzip"}


@pytest.mark.parametrize(
    "kind", [ProductKind.RATE_LIMITED_SECONDS, ProductKind.RATE_LIMITED_DATE, ProductKind.UNAVAILABLE]
)
def test_passing_refusals_end(world: SampleServers, client: httpx.Client, kind: ProductKind) -> None:
    """The first requests are refused, as many as the outage says; then the page is served."""
    number = of_kind(kind)
    answers = [client.get(world.url(number)) for _ in range(ENOUGH_TRIES)]
    outage = CATALOGUE.outage(number)
    refused = 503 if kind is ProductKind.UNAVAILABLE else 429
    assert [answer.status_code for answer in answers] == [refused] * outage + [200] * (ENOUGH_TRIES - outage)
    assert answers[-1].content == page(CATALOGUE.product(number)).body


def test_retry_after_comes_in_both_forms(world: SampleServers, client: httpx.Client) -> None:
    """Seconds in one kind, an HTTP date in the near future in the other."""
    seconds = client.get(world.url(of_kind(ProductKind.RATE_LIMITED_SECONDS, 1)))
    assert seconds.headers["retry-after"] == "1"
    date = client.get(world.url(of_kind(ProductKind.RATE_LIMITED_DATE, 1)))
    wait = parsedate_to_datetime(date.headers["retry-after"]) - datetime.now(UTC)
    assert 0.5 < wait.total_seconds() <= 2


def test_impatient_clients_are_counted(world: SampleServers, client: httpx.Client) -> None:
    """A request before Retry-After is over shows up as too early in the statistics."""
    number = of_kind(ProductKind.RATE_LIMITED_SECONDS, 2)
    for _ in range(2):
        client.get(world.url(number))
    counted = client.get(f"{world.shop_url}/_stats").json()["products"][str(number)]
    assert counted["requests"] == 2
    assert counted["too_early"] == 1
    assert counted["kind"] == "rate-limited-seconds"
    assert sum(counted["answers"].values()) == 2


def test_redirects_lead_to_the_page(world: SampleServers, client: httpx.Client) -> None:
    """Chains of one to three hops, of 301, 302 and 307, end at the product's page."""
    codes = set()
    for which in range(12):
        number = of_kind(ProductKind.REDIRECTED, which)
        answer = client.get(world.url(number), follow_redirects=True)
        codes |= {hop.status_code for hop in answer.history}
        assert tuple(hop.status_code for hop in answer.history) == CATALOGUE.redirects(number)
        assert answer.content == page(CATALOGUE.product(number)).body
        assert str(answer.url) == f"{world.shop_url}/item/{number}"
    assert codes == {301, 302, 307}


def test_redirect_loop_never_ends(world: SampleServers, client: httpx.Client) -> None:
    """A loop leads back to where it began."""
    with pytest.raises(httpx.TooManyRedirects):
        client.get(world.url(of_kind(ProductKind.REDIRECT_LOOP)), follow_redirects=True)


@pytest.mark.parametrize("kind", [ProductKind.SLOW_FIRST_BYTE, ProductKind.SLOW_BODY])
def test_slow_products_are_slow_once(world: SampleServers, client: httpx.Client, kind: ProductKind) -> None:
    """The first answer takes `slow_seconds`, the second doesn't; both are whole."""
    number = of_kind(kind)
    durations = []
    for _ in range(2):
        began = time.monotonic()
        assert client.get(world.url(number)).content == page(CATALOGUE.product(number)).body
        durations.append(time.monotonic() - began)
    assert durations[0] >= 0.29
    assert durations[1] < durations[0]


def test_dropped_body_breaks_then_arrives(world: SampleServers, client: httpx.Client) -> None:
    """The connection ends in the middle of the body for the first requests only."""
    number = of_kind(ProductKind.DROPPED_BODY)
    for _ in range(CATALOGUE.outage(number)):
        with pytest.raises(httpx.TransportError):
            client.get(world.url(number))
    assert client.get(world.url(number)).content == page(CATALOGUE.product(number)).body


def test_truncated_gzip_has_no_end(world: SampleServers, client: httpx.Client) -> None:
    """The HTTP message is complete; the gzip stream in it isn't, on every request."""
    number = of_kind(ProductKind.TRUNCATED_GZIP)
    for _ in range(2):
        with client.stream("GET", world.url(number)) as answer:
            raw = b"".join(answer.iter_raw())
        decompressor = zlib.decompressobj(wbits=31)
        decompressor.decompress(raw)
        assert len(raw) == int(answer.headers["content-length"])
        assert not decompressor.eof


def test_gzip_bomb_is_small_on_the_wire(world: SampleServers, client: httpx.Client) -> None:
    """A hundred kilobytes inflate to 64 MiB."""
    with client.stream("GET", world.url(of_kind(ProductKind.GZIP_BOMB))) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-type"].startswith("text/html")
    assert len(raw) < 100_000
    decompressor, inflated = zlib.decompressobj(wbits=31), 0
    while not decompressor.eof:
        inflated += len(decompressor.decompress(raw, 1 << 20))
        raw = decompressor.unconsumed_tail
    assert inflated > BOMB_BYTES


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ProductKind.NOT_FOUND, 404),
        (ProductKind.GONE, 410),
        (ProductKind.BROKEN, 500),
        (ProductKind.EMPTY, 200),
        (ProductKind.PDF, 200),
    ],
)
def test_lasting_faults_last(world: SampleServers, client: httpx.Client, kind: ProductKind, status: int) -> None:
    """Retries don't help."""
    for _ in range(ENOUGH_TRIES):
        answer = client.get(world.url(of_kind(kind)))
        assert answer.status_code == status
        assert (answer.content == b"") is (kind is ProductKind.EMPTY)
        assert (answer.headers["content-type"] == "application/pdf") is (kind is ProductKind.PDF)


def test_no_price_is_served_without_price(world: SampleServers, client: httpx.Client) -> None:
    """The page arrives; the required field isn't on it."""
    number = of_kind(ProductKind.NO_PRICE)
    product = CATALOGUE.product(number)
    assert client.get(world.url(number)).content == page(product, priced=False).body


def test_expectations_follow_the_kinds() -> None:
    """Each lasting fault has a reason; each passing one completes."""
    for number in NUMBERS:
        reason = REASONS.get(CATALOGUE.kind(number))
        expected = CATALOGUE.expected(number)
        assert (expected.outcome, expected.reason) == (("compensated", reason) if reason else ("completed", None))


def test_sitemap_lists_every_product(world: SampleServers, client: httpx.Client) -> None:
    """The sitemap's addresses are those that the world promises."""
    assert client.get(f"{world.shop_url}/sitemap.txt").text.split() == world.urls()


def test_unknown_pages_are_not_found(world: SampleServers, client: httpx.Client) -> None:
    """Numbers that aren't sold, and redirects that don't exist, are 404 with the range named."""
    answer = client.get(f"{world.shop_url}/p/401")
    assert (answer.status_code, answer.text) == (404, "The shop sells products 1 to 400.\n")
    assert client.get(f"{world.shop_url}/go/{of_kind(ProductKind.NORMAL)}/0").status_code == 404
    assert client.get(f"{world.shop_url}/go/{of_kind(ProductKind.REDIRECTED)}/3").status_code == 404


def test_world_comes_back_on_the_same_ports(tmp_path: Path, client: httpx.Client) -> None:
    """After a crash, start() serves the same addresses; after stop() nobody does."""
    world = SampleServers(tmp_path, products=3)
    with pytest.raises(SampleServersFailed, match=r"call start\(\) first"):
        _ = world.pid
    world.start()
    before = (world.shop_url, world.api_url)
    with pytest.raises(SampleServersFailed, match="already runs"):
        world.start()
    world.kill()
    world.start()
    assert (world.shop_url, world.api_url) == before
    assert client.get(world.url(1)).status_code == 200
    world.stop()
    world.stop()
    with pytest.raises(httpx.ConnectError):
        client.get(world.url(1))


def test_taken_port_is_a_clear_error(world: SampleServers, tmp_path: Path) -> None:
    """A port that somebody holds stops the start; the log says which."""
    port = int(world.shop_url.rpartition(":")[2])
    second = SampleServers(tmp_path, products=3, shop_port=port)
    with pytest.raises(SampleServersFailed, match=f"read {second.log_path}"):
        second.start()
    assert str(port) in second.log_path.read_text().splitlines()[-1]
    assert "the sample world can't run" in second.log_path.read_text()


@pytest.mark.parametrize(
    ("option", "named"),
    [("--fault-rate=2", "fault_rate"), ("--permanent-rate=2", "permanent_rate"), ("--products=0", "products")],
)
def test_wrong_options_are_named(option: str, named: str) -> None:
    """A rate that is no share, or an empty shop, ends the child with one line that names it."""
    command = [sys.executable, "-m", "processors.demo.sample_servers", option]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert named in ran.stderr


def test_world_dies_with_its_parent(tmp_path: Path, client: httpx.Client) -> None:
    """A parent that is killed leaves no orphan behind."""
    parent = (
        "import os, sys; from pathlib import Path; from processors.demo.sample_servers import SampleServers\n"
        "world = SampleServers(Path(sys.argv[1]), products=3).start(); print(world.url(1), flush=True); os._exit(9)"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", parent, tmp_path], cwd=root, stdout=subprocess.PIPE, timeout=30)
    assert ran.returncode == 9
    orphan, limit = ran.stdout.decode().strip(), time.monotonic() + 10
    while answers(client, orphan):
        assert time.monotonic() < limit, "the world outlived its parent"
