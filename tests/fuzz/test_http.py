"""What servers may send, damaged: headers, codings, charsets, pages and whole answers end in a value or a step's error."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import brotli
import httpx
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.errors import StepError
from processors.extraction.charset import decode
from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import compile_fields
from processors.http.body import BodyGarbled, BodyTooLarge, BoundedContent, UnknownCoding, read_body
from processors.http.retry_after import LONGEST, retry_after
from processors.step import StepCall, StepOutput
from processors.steps.enrich import Enrich
from processors.steps.fetch import Fetch
from processors.testing import MemoryHost, run_step, step_call
from tests.fuzz.bytes import MOST_BYTES, bounded, damaged, peak_bytes
from tests.fuzz.test_decoders import EXAMPLES, FUZZ

NOW = datetime(2026, 1, 31, 6, tzinfo=UTC)
DATES = st.sampled_from(
    [
        "Sat, 31 Jan 2026 06:00:05 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "5",
        "-1",
        "1e9",
    ]
)
TEXTS = st.text(max_size=40) | DATES | st.builds(lambda a, b: a + b, DATES, st.text(max_size=8))


@given(value=TEXTS, date=TEXTS)
@FUZZ
def test_retry_after_is_a_wait_or_nothing(value: str, date: str) -> None:
    """Whatever the header says, the wait is between nothing and a week."""
    with bounded():
        wait = retry_after({"retry-after": value, "date": date}, NOW)
    assert wait is None or timedelta(0) <= wait <= LONGEST


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
LIMIT = 50_000


@pytest.mark.parametrize("coding", PACKED)
@given(data=st.data())
@FUZZ
def test_codings_are_undone_or_refused(coding: str, data: st.DataObject) -> None:
    """A damaged body is garbled, one that swells is too large; no piece of it goes beyond the limit."""
    plain = b"<p>tent</p>" * data.draw(st.integers(0, 20_000))
    sent = data.draw(damaged(st.just(PACKED[coding](plain))))
    content = BoundedContent([coding], LIMIT)
    with bounded():
        try:
            for at in range(0, len(sent), 97):
                content.feed(sent[at : at + 97])
            assert len(content.finish()) <= LIMIT
        except (BodyGarbled, BodyTooLarge) as error:
            assert str(error)


@pytest.mark.parametrize("coding", PACKED)
def test_a_bomb_costs_no_memory(coding: str) -> None:
    """A hundred megabytes in some kilobytes, twice encoded too, are given up at the limit."""
    bomb = PACKED[coding](bytes(100_000_000))

    def defuse(codings: list[str], sent: bytes) -> None:
        content = BoundedContent(codings, LIMIT)
        with pytest.raises(BodyTooLarge):
            content.feed(sent)

    with bounded():
        assert peak_bytes(lambda: defuse([coding], bomb)) < MOST_BYTES
        assert peak_bytes(lambda: defuse([coding, coding], PACKED[coding](bomb))) < MOST_BYTES


@given(
    header=st.lists(st.sampled_from(["gzip", "br", "x-gzip", "identity", "", "ünknown", "zstd "]), max_size=5).map(
        ",".join
    )
)
@FUZZ
def test_any_content_encoding_is_understood_or_refused(header: str) -> None:
    """A chain of codings that was not offered is no traceback."""
    response = httpx.Response(
        200, headers=[(b"content-encoding", header.encode("utf-8"))], stream=httpx.ByteStream(b"")
    )
    try:
        assert asyncio.run(read_body(response, LIMIT)) == b""
    except (UnknownCoding, BodyGarbled) as error:
        assert str(error)


CHARSETS = st.sampled_from(
    ["utf-8", "hex", "idna", "rot13", "utf-7", "bz2", "undefined", "unicode_escape", "mbcs", "", "\x00", "ü"]
)


@given(
    body=damaged(st.sampled_from(["<meta charset=hex>ä", "\ufeffä", "<p>ж"]).map(str.encode)) | st.binary(max_size=60),
    header=st.builds("text/html; charset={}".format, CHARSETS) | st.text(max_size=30) | st.none(),
)
@FUZZ
def test_any_body_has_a_text(body: bytes, header: str | None) -> None:
    """Whatever charset is claimed, there is a text and the name of what it was read by."""
    with bounded():
        text, encoding = decode(body, header)
    assert isinstance(text, str)
    assert encoding


PAGE = b"""<html lang=de><head><title>Zelt</title><base href="/shop/"><meta property="og:price:amount" content="10,00">
<script type="application/ld+json">{"@context":"https://schema.org","@type":"Product","name":"Zelt","sku":"A-1",
"brand":{"@type":"Brand","name":"W"},"offers":[{"@type":"Offer","price":"10.00","priceCurrency":"EUR",
"availability":"https://schema.org/InStock"}]}</script></head><body itemscope itemtype="https://schema.org/Product">
<h1 itemprop=name>Zelt</h1><p class=price>10,00 &euro;</p><img src="a.jpg"><p>In 3 days</p></body></html>"""
FIELDS = compile_fields(
    {"title": {"css": "h1"}, "price": {"css": [".price"], "type": "money", "required": True}}, "product"
)


@given(page=damaged(st.just(PAGE)))
@FUZZ
def test_any_page_has_fields_or_lacks_one(page: bytes) -> None:
    """A damaged page gives values, or says which field is missing."""
    html, _ = decode(page, None)
    with bounded():
        try:
            extract(html, "http://shop.example/p/1", FIELDS, NOW)
        except FieldMissing as error:
            assert str(error)


@pytest.mark.parametrize(
    "page",
    [
        '<script type="application/ld+json">' + "[" * 100_000 + "</script>",
        '<script type="application/ld+json">' + '{"@graph":' * 20_000 + "</script>",
        '<script type="application/ld+json">{"@type":"Product","offers":{"price":"' + "9" * 200_000 + '"}}</script>',
        '<script type="application/ld+json">{"@type":"Product","offers":{"price":1e999999999}}</script>',
        "<div itemscope itemprop=a>" * 5_000,
        "<p class=price>" + "1," * 100_000 + "€</p>",
        "<p class=price>" + "€ " * 100_000 + "</p>",
        "<base href='http://[::'><h1>x</h1>",
        "<h1>" + "&#x110000;&#0;&#xd800;" * 1_000 + "</h1>",
        "<!--" * 50_000,
        "<a" + " a=b" * 50_000 + ">",
    ],
    ids=[
        "lists",
        "maps",
        "digits",
        "exponent",
        "scopes",
        "commas",
        "signs",
        "base",
        "entities",
        "comments",
        "attributes",
    ],
)
def test_hostile_pages_are_read_in_time(page: str) -> None:
    """Nesting, numbers and repetitions without end cost no more than a large page does."""
    with bounded():
        try:
            extract(page, "http://shop.example/p/1", FIELDS, NOW)
        except FieldMissing as error:
            assert str(error)


# --- whole answers, over real sockets -----------------------------------------------------------------------------------

ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 11\r\nETag: "1"\r\n\r\n<p>tent</p>'
)
ANSWERS = (
    ANSWER,
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /next\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
)
JSON_ANSWERS = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{"category":"tent"}',
    b"HTTP/1.1 503 Unavailable\r\nRetry-After: Sat, 31 Jan 2026 06:00:05 GMT\r\nContent-Length: 2\r\n\r\n{}",
)


async def answered(answer: bytes, use: Callable[[str], Awaitable[StepOutput]]) -> None:
    """Run a step against a server that sends these very bytes; it must say what it thinks of them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            await use(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        except StepError as error:
            assert error.reason


def call(url: str) -> StepCall:
    return step_call("s", url=url, record={"title": "Tent"}, timeout=timedelta(seconds=20))


async def fetched(url: str) -> StepOutput:
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"})
    return (await run_step(Fetch, call(url), params={"max_bytes": LIMIT}, host=host)).returned()


async def enriched(url: str) -> StepOutput:
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"})
    params = {"url": url, "response": {"category": "category"}}
    return (await run_step(Enrich, call(url), params=params, host=host)).returned()


@given(answer=damaged(st.sampled_from(ANSWERS)))
@settings(FUZZ, max_examples=EXAMPLES // 2)
def test_fetch_bears_any_answer(answer: bytes) -> None:
    """A page is archived, or the attempt ends in StepFailed or RetryLater: never in an unexpected error."""
    asyncio.run(answered(answer, fetched))


@given(answer=damaged(st.sampled_from(JSON_ANSWERS)))
@settings(FUZZ, max_examples=EXAMPLES // 2)
def test_enrich_bears_any_answer(answer: bytes) -> None:
    """Fields are merged, or the attempt ends in StepFailed or RetryLater: never in an unexpected error."""
    asyncio.run(answered(answer, enriched))


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 20_000, b"\xff\xfe", b'{"category": ' + b"9" * 5_000 + b"}"]
)
def test_hostile_json_ends_in_a_documented_error(body: bytes) -> None:
    """A paid answer that nests without end, or is no text, leaves the outcome unknown and says why."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    asyncio.run(answered(answer, enriched))


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://u:p@127.0.0.1/\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: " + "ü".encode("latin-1") + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        b"HTTP/1.1 999 ?\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000 + b"HTTP/1.1 200 OK\r\n",
    ],
    ids=[
        "many",
        "long",
        "no-host",
        "bytes",
        "userinfo",
        "file",
        "latin",
        "huge",
        "negative",
        "two",
        "status",
        "continue",
    ],
)
def test_hostile_heads_end_in_a_documented_error(head: bytes) -> None:
    """Headers without end, redirects to nowhere and lengths that lie end as an error of the step."""
    with bounded():
        asyncio.run(answered(head + b"\r\n", fetched))
