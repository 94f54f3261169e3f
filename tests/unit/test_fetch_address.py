"""What fetch asks for, byte for byte, and where it follows: addresses, redirects, cookies, refreshes, content codings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.errors import RetryLater, StepFailed
from processors.http.url import BadUrl, Url
from processors.messages.scrape_request import canonical_url, requested_address
from processors.step import StepCall, StepOutput
from processors.steps.fetch import Fetch
from processors.steps.fetch_params import FetchParams
from processors.testing import MemoryHost, run_step, step_call

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]

#: Answers a request, given as its lines.
Answer = Callable[[list[bytes]], bytes]


def page(body: bytes = b"<h1>Lamp</h1>", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer as it goes over the wire."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *headers]
    if not any(header.lower().startswith(b"content-type") for header in headers):
        lines.append(b"Content-Type: text/html")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def moved(location: bytes, *headers: bytes) -> bytes:
    """A redirect."""
    return page(b"", b"Location: " + location, *headers, status=b"302 Found")


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[tuple[str, list[list[bytes]]]]:
    """Serve every request by a function; yields the origin, and the lines of the requests that came."""
    asked: list[list[bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        asked.append(lines)
        writer.write(answer(lines))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


async def fetch(address: str, host: MemoryHost | None = None, **params: Any) -> StepOutput:
    """Run the step as the engine does: by the address that was submitted, beside the canonical URL."""
    host = host or MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.0/8,localhost"})
    url, asked = canonical_url(address), requested_address(address)
    call = step_call("fetch", job_id="j", url=url, address=asked, timeout=timedelta(seconds=5))
    return (await run_step(Fetch, call, params=params, host=host)).returned()


def archived(host: MemoryHost) -> bytes:
    """The page that was archived last."""
    return zstandard.decompress(host.records("pages")[-1].value or b"")


def header(lines: list[bytes], name: bytes) -> bytes | None:
    """A header of a request; None if it has none."""
    found = [line.partition(b": ")[2] for line in lines if line.lower().startswith(name.lower() + b":")]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("submitted", "asked"),
    [
        ("/p?id=2&id=1", "/p?id=2&id=1"),
        ("/p?z=1&a=2&sig=H", "/p?z=1&a=2&sig=H"),
        ("/index.pl?Action=Zoom;TicketID=7", "/index.pl?Action=Zoom;TicketID=7"),
        ("/x%2By", "/x%2By"),
        ("/x+y", "/x+y"),
        ("/s?1800", "/s?1800"),
        ("/s?", "/s?"),
        ("/a%2fb%7E~?q=%20+;&&=", "/a%2fb%7E~?q=%20+;&&="),
        ('/p?f[]=1|2&j={"a":[^]}`', "/p?f[]=1|2&j={%22a%22:[^]}`"),
        ("/a;v=1/b,c@d:e!$&'()*=", "/a;v=1/b,c@d:e!$&'()*="),
        ("/caf%e9?x=%e9", "/caf%e9?x=%e9"),
        ("/%zz%?50%", "/%zz%?50%"),
        ("/p#part", "/p"),
        ("/p?q=1#part?x", "/p?q=1"),
    ],
)
async def test_what_is_requested_is_what_was_submitted(submitted: str, asked: str) -> None:
    """Order of arguments, escapes, `;`: a signature over them holds, and another product is never fetched."""
    async with served(lambda _lines: page()) as (origin, requests):
        output = await fetch(origin + submitted)
    assert requests[0][0] == f"GET {asked} HTTP/1.1".encode()
    assert output.data["final_url"] == origin + asked


async def test_the_address_is_requested_and_not_the_identity() -> None:
    """A pipeline may name a job by less than its address: the server still sees all of it."""
    async with served(lambda _lines: page()) as (origin, requests):
        step = Fetch("fetch", FetchParams(), MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"}))
        await step.open()
        await step.run(
            StepCall(
                job_id="j",
                run=1,
                pipeline="p",
                step="fetch",
                seq=1,
                attempt=1,
                key="j:1:fetch",
                url=f"{origin}/p?id=1",
                address=f"{origin}/p?utm=7&id=1",
                timeout=timedelta(seconds=5),
            )
        )
        await step.close()
    assert requests[0][0] == b"GET /p?utm=7&id=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        (b"/caf\xc3\xa9", b"/caf%C3%A9"),
        (b"/caf\xe9", b"/caf%E9"),
        (b"/caf\xe9/\xc3\xa9", b"/caf%E9/%C3%A9"),
        (b"/a b?c d", b"/a%20b?c%20d"),
        (b"?id=2&id=1", b"/go?id=2&id=1"),
        (b"next;v=1#top", b"/next;v=1"),
        (b"/x%2by", b"/x%2by"),
    ],
)
async def test_a_location_is_read_in_its_own_encoding(location: bytes, asked: bytes) -> None:
    """UTF-8 where it is UTF-8, else byte by byte, whatever another header of the answer is in."""

    def latin(lines: list[bytes]) -> bytes:
        return moved(location, b"Server: Stra\xdfe") if lines[0].startswith(b"GET /go ") else page()

    async with served(latin) as (origin, requests):
        await fetch(origin + "/go")
    assert [lines[0].split()[1] for lines in requests] == [b"/go", asked]


@pytest.mark.parametrize(
    "location", [b"http://a b/", b"//[::1", b"http://x:99999/", b"http://u:p@127.0.0.1/", b"/" + b"a" * 9000]
)
async def test_a_location_that_leads_nowhere_fails_for_good(location: bytes) -> None:
    """The reason says what is wrong with it, in a bounded text and without a password."""
    async with served(lambda _lines: moved(location)) as (origin, _):
        with pytest.raises(StepFailed, match="/go redirects to") as caught:
            await fetch(origin + "/go")
    assert len(caught.value.reason) < 1000
    assert "u:p" not in caught.value.reason


async def test_a_configured_cookie_and_the_sites_own_are_sent_together() -> None:
    """A site that sets a cookie and redirects to the same page gets both, which is no loop; its own value wins."""

    def answer(lines: list[bytes]) -> bytes:
        cookie = header(lines, b"Cookie") or b""
        if b"wall=1" not in cookie:
            return moved(b"/page", b"Set-Cookie: wall=1; Path=/", b"Set-Cookie: lang=de; Path=/")
        return page(cookie)

    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"})
    async with served(answer) as (origin, requests):
        output = await fetch(origin + "/page", host, headers={"Cookie": "consent=yes; lang=en"})
    assert header(requests[0], b"Cookie") == b"consent=yes; lang=en"
    assert sorted(archived(host).split(b"; ")) == [b"consent=yes", b"lang=de", b"wall=1"]
    assert len(output.data["redirects"]) == 1


async def test_a_cookie_in_any_bytes_comes_back_as_it_was() -> None:
    """UTF-8, Latin-1: a cookie's value is the site's business, and no error."""

    def answer(lines: list[bytes]) -> bytes:
        cookie = header(lines, b"Cookie")
        return moved(b"/page", b"Set-Cookie: a=\xc3\xa9", b"Set-Cookie: b=\xe9") if cookie is None else page()

    async with served(answer) as (origin, requests):
        await fetch(origin + "/page")
    assert sorted((header(requests[1], b"Cookie") or b"").split(b"; ")) == [b"a=\xc3\xa9", b"b=\xe9"]


async def test_a_loop_with_cookies_is_still_a_loop() -> None:
    """A site that sets the same cookie again and again makes no progress."""
    async with served(lambda _lines: moved(b"/page", b"Set-Cookie: a=1")) as (origin, requests):
        with pytest.raises(StepFailed, match="in a loop"):
            await fetch(origin + "/page", headers={"Cookie": "consent=yes"})
    assert len(requests) == 2


@pytest.mark.parametrize(
    "coding",
    ["UTF-8", "utf8", "binary", "7bit", "8bit", "null", "none", "identity", "", "iso-8859-1", "windows-1251", "text/html",
     "aws-chunked", "amz-1.0", "identity, utf-8", "charset=utf-8", "NULL", "false", "unicode", '"none"'],
)  # fmt: skip
async def test_a_content_encoding_that_is_none_leaves_the_body_as_it_is(coding: str) -> None:
    """Servers write there what belongs elsewhere."""
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"})
    body = "<h1>Straße\t1</h1>\n".encode()
    async with served(lambda _lines: page(body, b"Content-Encoding: " + coding.encode())) as (origin, _):
        await fetch(origin + "/page", host)
    assert archived(host) == body


@pytest.mark.parametrize(
    ("coding", "body"), [("foo", b"\x28\xb5\x2f\xfd\x00\x01"), ("compress", b"<h1>"), ("xz", b"\xfd7zXZ\0")]
)
async def test_a_coding_that_is_unknown_is_no_page(coding: str, body: bytes) -> None:
    """What is no text under an unknown name is not archived as if it were."""
    async with served(lambda _lines: page(body, b"Content-Encoding: " + coding.encode())) as (origin, _):
        with pytest.raises(StepFailed, match="Content-Encoding"):
            await fetch(origin + "/page")


@pytest.mark.parametrize(
    "value",
    ["Thu, 01 Jan 2026 00:00:00 +99999999999999999999", "Thu, 01 Jan 2026 00:00:00 +9900", "Fri, 31 Dec 9999 23:59:59 -2359",
     "Thu, 01 Jan 99999999999 00:00:00 GMT", "-5", "1e9", "NaN", "x" * 50_000,
     "Thu, 99 Jan 2026 00:00:00 GMT", "\u0661\u0662"],
)  # fmt: skip
async def test_a_retry_after_that_cannot_be_meant_is_ignored(value: str) -> None:
    """The attempt is tried again by the pipeline's own rule; nothing overflows."""
    answer = page(b"", b"Retry-After: " + value.encode(), status=b"503 Service Unavailable")
    async with served(lambda _lines: answer) as (origin, _):
        with pytest.raises(RetryLater, match="503") as caught:
            await fetch(origin + "/page")
    assert caught.value.after is None


async def test_a_page_without_a_type_is_named_by_the_type_that_it_counts_as() -> None:
    """A pipeline that takes JSON alone refuses it, and says so."""
    bare = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    async with served(lambda _lines: bare) as (origin, _):
        with pytest.raises(StepFailed, match="is text/html; accepted: application/json"):
            await fetch(origin + "/", accept=["application/json"])


REFRESH = b'<html><head><title>Redirecting...</title><meta http-equiv="refresh" content="0;url=/real"></head></html>'


async def test_a_page_that_only_refreshes_is_followed_like_a_redirect() -> None:
    """The record is of the page that was meant, and the way there is told."""
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"})

    def answer(lines: list[bytes]) -> bytes:
        return page() if lines[0].startswith(b"GET /real ") else page(REFRESH)

    async with served(answer) as (origin, _):
        output = await fetch(origin + "/old", host)
    assert archived(host) == b"<h1>Lamp</h1>"
    assert output.data["final_url"] == f"{origin}/real"
    assert output.data["redirects"] == [f"{origin}/old"]


async def test_the_header_refresh_is_followed_too() -> None:
    """Some servers say it there."""

    def answer(lines: list[bytes]) -> bytes:
        return page() if lines[0].startswith(b"GET /re%C3%A9l ") else page(b"wait", "Refresh: 0; url=/reél".encode())

    async with served(answer) as (origin, _):
        assert (await fetch(origin + "/old")).data["final_url"] == f"{origin}/re%C3%A9l"


async def test_refreshes_are_bounded_and_guarded() -> None:
    """Each hop counts as a redirect, a circle is a loop, and a forbidden address is not connected to."""
    count = 0

    def onward(_lines: list[bytes]) -> bytes:
        nonlocal count
        count += 1
        return page(b'<meta http-equiv=refresh content="0;url=/%d">' % count)

    async with served(onward) as (origin, _):
        with pytest.raises(StepFailed, match="more than 3 redirects"):
            await fetch(origin + "/", max_redirects=3)
    async with served(lambda _lines: page(REFRESH)) as (origin, _):
        with pytest.raises(StepFailed, match="more than 0 redirects"):
            await fetch(origin + "/", max_redirects=0)
    circle = {b"/a": b"/b", b"/b": b"/a"}
    async with served(
        lambda lines: page(b'<meta http-equiv=refresh content="0;url=%s">' % circle[lines[0].split()[1]])
    ) as (origin, _):
        with pytest.raises(StepFailed, match="in a loop"):
            await fetch(origin + "/a")
    metadata = b'<meta http-equiv=refresh content="0;url=http://169.254.169.254/latest/">'
    async with served(lambda _lines: page(metadata)) as (origin, _):
        with pytest.raises(StepFailed, match="metadata"):
            await fetch(origin + "/", allow_private=True)


@pytest.mark.parametrize(
    "body",
    [
        b'<meta http-equiv="refresh" content="5">',
        b'<meta http-equiv="refresh" content="0;url=/page">',
        b'<meta http-equiv="refresh" content="0;url=#top">',
        b'<meta http-equiv="refresh" content="300;url=/next">',
        b'<noscript><meta http-equiv="refresh" content="0;url=/nojs"></noscript>',
        b'<!-- <meta http-equiv="refresh" content="0;url=/real"> -->',
        b'<script>\'<meta http-equiv="refresh" content="0;url=/real">\'</script>',
    ],
)
async def test_a_page_that_renews_itself_is_the_page(body: bytes) -> None:
    """A reload, a slide show, markup for others: not a redirect."""
    async with served(lambda _lines: page(body)) as (origin, requests):
        output = await fetch(origin + "/page")
    assert len(requests) == 1
    assert output.data["redirects"] == []


async def test_a_cookie_wall_by_refresh_is_passed() -> None:
    """A page that sets a cookie and refreshes to itself is followed, with the cookie."""

    def answer(lines: list[bytes]) -> bytes:
        wall = page(b'<meta http-equiv="refresh" content="0;url=/page">', b"Set-Cookie: in=1")
        return wall if header(lines, b"Cookie") is None else page(b"in")

    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"})
    async with served(answer) as (origin, _):
        await fetch(origin + "/page", host)
    assert archived(host) == b"in"


async def test_headers_that_look_like_keys_follow_no_redirect_to_another_origin() -> None:
    """Another port is another origin; what is no key goes along."""
    keys = {"X-Api-Key": "1", "Authorization": "2", "Cookie": "a=3", "Proxy-Authorization": "4", "X-Shop-Token": "5",
            "Client-Secret": "6", "Ocp-Apim-Subscription-Key": "7", "X-Session-Id": "8"}  # fmt: skip
    async with (
        served(lambda _lines: page()) as (other, away),
        served(lambda _lines: moved(f"{other}/x".encode(), b"Set-Cookie: site=1")) as (origin, own),
    ):
        await fetch(origin + "/go", headers={**keys, "Accept-Language": "de"})
    assert [header(own[0], name.encode()) for name in keys] == [value.encode() for value in keys.values()]
    assert [header(away[0], name.encode()) for name in keys if name != "Cookie"] == [None] * 7
    assert header(away[0], b"Cookie") in (None, b"site=1")
    assert header(away[0], b"Accept-Language") == b"de"


async def test_auth_goes_to_its_origins_whatever_is_submitted() -> None:
    """A submitter's address elsewhere never gets it, directly or by a redirect; a listed origin does, after one too."""
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.0/8"}, secrets={"SITE": "s3cret-of-the-shop"})
    async with served(lambda _lines: page()) as (shop, at_shop):
        auth = {"bearer": "SITE", "origins": [shop]}
        async with served(lambda _lines: moved(f"{shop}/in".encode())) as (other, at_other):
            await fetch(f"{other}/evil", host, auth=auth)
        assert header(at_other[0], b"Authorization") is None
        assert header(at_shop[0], b"Authorization") == b"Bearer s3cret-of-the-shop"
        # The same host under another name is another origin.
        await fetch(shop.replace("127.0.0.1", "127.0.0.1.") + "/", host, auth=auth)
        assert header(at_shop[1], b"Authorization") == b"Bearer s3cret-of-the-shop"


async def test_a_refusal_says_that_auth_was_not_sent() -> None:
    """Whoever forgot to list an origin learns it from the error."""
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"}, secrets={"SITE": "s3cret-of-the-shop"})
    async with served(lambda _lines: page(b"", status=b"401 Unauthorized")) as (origin, _):
        with pytest.raises(StepFailed, match=f"`auth` was not sent: {origin} is none of its origins"):
            await fetch(origin + "/", host, auth={"bearer": "SITE", "origins": ["https://shop.example"]})


async def test_an_address_keeps_its_target_whatever_httpx_makes_of_it() -> None:
    """Names that other libraries stumble over are addresses, or refused with a reason."""
    assert Url.of("http://☃.net/?a=|").target == "/?a=|"
    assert Url.of("http://☃.net/").host == "xn--n3h.net"
    assert Url.of("http://a_b.example./").origin == ("http", "a_b.example.", 80)


@given(st.text(max_size=40), st.sampled_from(["", "http://", "http://x", "https://x:", "http://[", "//", "?"]))
@settings(max_examples=300)
async def test_any_text_is_an_address_or_bad(text: str, before: str) -> None:
    """Nothing raises anything but BadUrl, and what is an address has a target that a request line can carry."""
    makes: list[Callable[[], Url]] = [
        lambda: Url.of(before + text),
        lambda: Url.of("http://x/a?b").join(before + text),
    ]
    for make in makes:
        try:
            url = make()
        except BadUrl as error:
            assert str(error)
            continue
        assert url.target.isascii() and url.target.startswith("/") and " " not in url.target
        assert Url.of(url.href).href == url.href
