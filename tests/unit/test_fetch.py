"""fetch against real servers on loopback: pages, redirects, failures, bombs, and what is archived."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
import zstandard
from aiohttp import web

from processors.errors import ConfigurationError, PipelineError, RetryLater, StepFailed
from processors.step import Address, StepCall, StepOutput
from processors.steps.fetch import Fetch
from processors.steps.fetch_params import FetchParams
from processors.testing import MemoryHost, open_step, step_call

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(30)]

LOOPBACK = {"ALLOW_ADDRESSES": "127.0.0.1"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def site(
    address: str = "127.0.0.1", port: int = 0, *, paths: Mapping[str, Handler] | None = None, **handlers: Handler
) -> AsyncIterator[str]:
    """Serve each handler under its name, or under a path that is no name; yields the URL up to the last slash."""
    app = web.Application()
    for name, handler in {**handlers, **(paths or {})}.items():
        app.router.add_get(f"/{name}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    try:
        yield f"http://{address}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_site(answer: bytes, *, hold: bool = False) -> AsyncIterator[str]:
    """Send fixed bytes to every request and close the connection, or keep it open."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if hold:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        done.set()
        server.close()


def call(url: str, *, timeout: float = 5.0, seq: int = 1) -> StepCall:
    """A command to fetch a URL."""
    return step_call("fetch", job_id="j", url=url, seq=seq, timeout=timedelta(seconds=timeout))


async def fetch(url: str, host: MemoryHost | None = None, *, timeout: float = 5.0, **params: Any) -> StepOutput:
    """Run the step once, parameters read as from a pipeline; it ends itself before the engine would."""
    async with open_step(Fetch, params, name="fetch", host=host or MemoryHost(settings=LOOPBACK)) as step:
        return await step.run(call(url, timeout=timeout))


def says(text: str = "<h1>Lamp</h1>", **response: Any) -> Handler:
    """A handler that always answers the same."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        headers = dict(response.get("headers") or {})
        headers.setdefault("Content-Type", "text/html; charset=utf-8")
        return web.Response(body=text.encode(), **{**response, "headers": headers})

    return handler


async def test_a_site_that_repeats_a_secret_puts_it_nowhere() -> None:
    """In the page, in a header, in the place that it redirects to, in an error: what was sent to a site stays there."""
    token = "pa55/w+rd"
    host = MemoryHost(settings=LOOPBACK, secrets={"SITE": token})

    async def redirect(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/page/pa55%2Fw%2Brd?t=pa55%2Fw%2Brd")

    echo = says(f"<p>{token}</p>", headers={"ETag": f'"{token}"'})
    failing = says("", status=404)
    async with site(go=redirect, paths={"page/{rest:.*}": echo}) as url:
        output = await fetch(url + "go", host, auth={"bearer": "SITE", "origins": [url.rstrip("/")]})
    async with site(go=redirect, paths={"page/{rest:.*}": failing}) as url:
        with pytest.raises(StepFailed) as caught:
            await fetch(url + "go", host, auth={"bearer": "SITE", "origins": [url.rstrip("/")]})
    record = host.records("pages")[0]
    page = zstandard.decompress(record.value or b"")
    for text in (page.decode(), str(output), str(record.headers), caught.value.reason):
        assert "pa55" not in text, text
    assert output.data["final_url"].endswith("/page/***?t=***")
    assert "/page/***?*** answered 404" in caught.value.reason


async def test_messages_show_no_query() -> None:
    """A query may carry a token: an error names the page without it."""
    async with site(gone=says("", status=404)) as url:
        with pytest.raises(StepFailed, match=r"/gone\?\*\*\* answered 404"):
            await fetch(url + "gone?token=hunter2")


async def test_a_page_is_archived_and_named_by_a_claim_check() -> None:
    """The output names a record whose value, unpacked, is the page; its headers say where it came from."""
    host = MemoryHost(settings=LOOPBACK)
    async with site(page=says(headers={"ETag": '"7"', "Content-Type": "text/html; charset=latin-1"})) as url:
        output = await fetch(url + "page#reviews", host)
    packed = await host.read(Address.from_json(output.data["page"]), output.data["page_key"].encode())
    assert zstandard.decompress(packed) == b"<h1>Lamp</h1>"
    assert output.data["status"] == 200
    assert output.data["content_type"] == "text/html; charset=latin-1"
    assert output.data["etag"] == '"7"'
    assert output.data["size_bytes"] == 13
    assert output.data["final_url"] == url + "page"
    assert msgspec.json.decode(msgspec.json.encode(output.data)) == output.data
    record = host.records("pages")[0]
    assert record.key == b"j:1:fetch"
    assert record.headers["content-type"] == b"text/html; charset=latin-1"
    assert record.headers["status"] == b"200"
    assert host.total("page_bytes", step="fetch") == 13


async def test_the_compensation_deletes_the_page() -> None:
    """A tombstone under the same key, also if there never was a page."""
    host = MemoryHost(settings=LOOPBACK)
    async with site(page=says()) as url:
        await fetch(url + "page", host)
    step = Fetch("fetch", FetchParams(), host)
    for _ in range(2):
        await step.compensate(call("http://gone.example/"))
    assert host.compacted("pages") == {}
    assert host.records("pages")[-1].key == b"j:1:fetch"


async def test_compressed_pages_are_archived_unpacked() -> None:
    """gzip on the wire is not gzip in the archive; the header keeps what was sent."""
    host = MemoryHost(settings=LOOPBACK)

    async def page(request: web.Request) -> web.Response:
        assert "zstd" in request.headers["Accept-Encoding"]
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/html"}
        return web.Response(body=gzip.compress(b"<p>x</p>"), headers=headers)

    async with site(page=page) as url:
        await fetch(url + "page", host)
    assert zstandard.decompress(host.compacted("pages")[b"j:1:fetch"]) == b"<p>x</p>"
    assert host.records("pages")[0].headers["content-encoding"] == b"gzip"


async def test_a_bomb_fails_at_the_limit() -> None:
    """A page over max_bytes after decompression fails for good, and nothing is archived."""
    host = MemoryHost(settings=LOOPBACK)
    bomb = gzip.compress(bytes(30_000_000))

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "text/html"})

    async with site(page=page, big=says("x" * 2000)) as url:
        with pytest.raises(StepFailed, match="limit of 1000000 bytes"):
            await fetch(url + "page", host, max_bytes="1MB")
        with pytest.raises(StepFailed, match="2000 bytes, the limit is 1000"):
            await fetch(url + "big", host, max_bytes=1000)
    assert host.records("pages") == []


async def test_redirects_are_followed_counted_and_recorded() -> None:
    """The output names the last URL and every one on the way, relative targets and fragments resolved."""
    async with site(
        a=says(status=302, headers={"Location": "b?x=1#top"}),
        b=says(status=308, headers={"Location": "/page"}),
        page=says(),
    ) as url:
        output = await fetch(url + "a")
        assert output.data["final_url"] == url + "page"
        assert output.data["redirects"] == [url + "a", url + "b?x=1#top"]
        assert "2 redirects" in output.note
        with pytest.raises(StepFailed, match="more than 1 redirects"):
            await fetch(url + "a", max_redirects=1)


async def test_a_redirect_loop_fails_at_once() -> None:
    """Going in circles is told from a long way."""
    hits = 0

    async def turn(_request: web.Request) -> web.Response:
        nonlocal hits
        hits += 1
        return web.Response(status=301, headers={"Location": "/a"})

    async with site(a=turn) as url:
        with pytest.raises(StepFailed, match="loop"):
            await fetch(url + "a")
    assert hits == 1


async def test_a_cookie_wall_is_passed() -> None:
    """A site that sets a cookie and redirects to the same page gets it back, in this fetch only."""

    async def page(request: web.Request) -> web.Response:
        if "seen" in request.cookies:
            return web.Response(text="<p>in</p>", content_type="text/html")
        return web.Response(status=302, headers={"Location": "/page", "Set-Cookie": "seen=1; Path=/"})

    async with site(page=page) as url:
        step = Fetch("fetch", FetchParams(), MemoryHost(settings=LOOPBACK))
        await step.open()
        for _ in range(2):
            output = await step.run(call(url + "page"))
            assert len(output.data["redirects"]) == 1
        await step.close()


async def test_a_redirect_to_a_blocked_address_fails_before_it_connects() -> None:
    """The guard holds after redirects: the other server sees no request."""
    reached: list[str] = []

    async def secret(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(text="secret", content_type="text/html")

    async with (
        site("127.0.0.2", meta=secret) as inner,
        site(
            go=says(status=302, headers={"Location": inner + "meta"}),
            aws=says(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"}),
            file=says(status=302, headers={"Location": "file:///etc/passwd"}),
            nowhere=says(status=302),
        ) as url,
    ):
        with pytest.raises(StepFailed, match=r"127\.0\.0\.2 is loopback"):
            await fetch(url + "go")
        with pytest.raises(StepFailed, match="metadata"):
            await fetch(url + "aws", allow_private=True)
        with pytest.raises(StepFailed, match="must begin with http"):
            await fetch(url + "file")
        with pytest.raises(StepFailed, match="without a Location"):
            await fetch(url + "nowhere")
        assert reached == []
        assert (await fetch(url + "go", allow_addresses=["127.0.0.0/8"])).data["status"] == 200


async def test_secrets_go_to_the_first_origin_only() -> None:
    """Credentials are sent to the page's own site, never to where it redirects, and never into the archive."""
    got: dict[str, str | None] = {}
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.0/8"}, secrets={"SITE": "pa55word"})

    async def other(request: web.Request) -> web.Response:
        got["other"] = request.headers.get("Authorization")
        return web.Response(text="ok", content_type="text/html")

    async def echo(request: web.Request) -> web.Response:
        got["own"] = request.headers.get("Authorization")
        return web.Response(text=str(request.headers), content_type="text/html")

    async with (
        site("127.0.0.2", other=other) as away,
        site(go=says(status=302, headers={"Location": away + "other"}), echo=echo) as url,
    ):
        output = await fetch(url + "echo", host, auth={"bearer": "SITE", "origins": [url.rstrip("/")]})
        assert got["own"] == "Bearer pa55word"
        await fetch(url + "go", host, auth={"bearer": "SITE", "origins": [url.rstrip("/")]})
        assert got["other"] is None
    page = await host.read(Address.from_json(output.data["page"]), b"j:1:fetch")
    assert b"pa55word" not in zstandard.decompress(page)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 204, 206, 304])
async def test_statuses_that_fail_for_good(status: int) -> None:
    """What won't change by waiting ends the step."""
    async with site(page=says(status=status)) as url:
        with pytest.raises(StepFailed, match=str(status)):
            await fetch(url + "page")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 202])
async def test_statuses_that_are_tried_again(status: int) -> None:
    """What may change by waiting is tried later, with no effect to undo."""
    async with site(page=says(status=status)) as url:
        with pytest.raises(RetryLater, match=str(status)) as caught:
            await fetch(url + "page")
    assert caught.value.after is None
    assert not caught.value.effect_unknown


async def test_retry_after_is_honoured_in_both_forms() -> None:
    """Seconds and a date both reach the coordinator as a wait."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    async with site(
        seconds=says(status=429, headers={"Retry-After": "17"}),
        date=says(status=503, headers={"Retry-After": date}),
    ) as url:
        with pytest.raises(RetryLater) as caught:
            await fetch(url + "seconds")
        assert caught.value.after == timedelta(seconds=17)
        with pytest.raises(RetryLater) as caught:
            await fetch(url + "date")
        assert caught.value.after is not None
        assert timedelta(seconds=55) < caught.value.after <= timedelta(seconds=61)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
        + gzip.compress(b"x" * 999)[:-9],
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["closed", "short body", "short chunk", "short gzip", "not HTTP"],
)
async def test_broken_answers_are_tried_again(answer: bytes) -> None:
    """Half an answer is never a page, and no reason to give up."""
    host = MemoryHost(settings=LOOPBACK)
    async with raw_site(answer) as url:
        with pytest.raises(RetryLater):
            await fetch(url, host)
    assert host.records("pages") == []


async def test_a_silent_server_costs_the_read_timeout() -> None:
    """A server that takes the request and says nothing is left after read_timeout."""
    async with raw_site(b"", hold=True) as url:
        with pytest.raises(RetryLater, match="no answer in time"):
            await fetch(url, read_timeout="50ms")


async def test_a_dribbling_server_costs_the_attempts_time() -> None:
    """A byte now and then keeps every read alive, but not the attempt."""
    sent = 0

    async def dribble(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        while sent < 1000:
            await response.write(b"x")
            sent += 1
            await asyncio.sleep(0.01)
        return response

    async with site(page=dribble) as url:
        with pytest.raises(RetryLater, match="not read within"):
            await fetch(url + "page", timeout=0.3, read_timeout="1s")
    assert 3 < sent < 1000


async def test_no_connection_is_tried_again() -> None:
    """A refused connection and a name that doesn't resolve may both be better later."""
    async with raw_site(b"") as url:
        pass
    with pytest.raises(RetryLater, match="no connection"):
        await fetch(url)
    with pytest.raises(RetryLater, match="does not resolve"):
        await fetch("http://no-such-host.invalid/")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://shop.example/x", "must begin with http"),
        ("/relative", "must begin with http"),
        ("http:///x", "names no host"),
        ("http://user:hunter2@shop.example/", "user name"),
        ("http://shop.example:99999/", "port 99999"),
        ("http://[::1/", "not a URL.*IPv6"),
        ("", "must begin with http"),
    ],
)
async def test_bad_urls_fail_for_good(url: str, reason: str) -> None:
    """A URL that can't be requested says why, without the password in it."""
    with pytest.raises(StepFailed, match=reason) as caught:
        await fetch(url)
    assert "hunter2" not in str(caught.value)


async def test_other_content_types_fail_for_good() -> None:
    """A picture is no page; an answer without a type is taken for HTML; `accept` changes it."""
    async with raw_site(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as url:
        assert (await fetch(url)).data["content_type"] == ""
    picture = says(headers={"Content-Type": "image/png"})
    async with site(picture=picture, feed=says(headers={"Content-Type": "application/rss+xml"})) as url:
        with pytest.raises(StepFailed, match="image/png"):
            await fetch(url + "picture")
        await fetch(url + "feed")
        await fetch(url + "picture", accept=["image/*"])


async def test_headers_and_user_agent_are_sent() -> None:
    """The pipeline's headers reach the site; User-Agent says who asks."""

    async def echo(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    host = MemoryHost(settings=LOOPBACK)
    async with site(echo=echo) as url:
        await fetch(url + "echo", host, headers={"Accept-Language": "de"}, user_agent="shop-bot/1.0")
    sent = msgspec.json.decode(zstandard.decompress(host.compacted("pages")[b"j:1:fetch"]))
    assert sent["Accept-Language"] == "de"
    assert sent["User-Agent"] == "shop-bot/1.0"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"max_bytes": "much"}, "no size"),
        ({"read_timeout": "30"}, "no duration"),
        ({"max_redirects": -1}, "max_redirects"),
        ({"host_concurrency": 0}, "host_concurrency"),
        ({"allow_addresses": ["10.0.0.0/99"]}, "allow_addresses"),
        ({"headers": {"X-Y": "a\r\nb"}}, "X-Y"),
        ({"headers": {"X Y": "a"}}, "X Y"),
        ({"auth": {}}, "exactly one"),
        ({"auth": {"bearer": "X"}}, "origins"),
        ({"auth": {"bearer": "X", "origins": ["https://shop.example/in"]}}, "more than scheme, host and port"),
        ({"auth": {"bearer": "X", "origins": ["ftp://shop.example"]}}, "begin with http"),
        ({"auth": {"bearer": "X", "origins": ["https://*.shop.example:99999"]}}, "no port 99999"),
        ({"auth": {"header": {"name": "a b", "secret": "X"}, "origins": ["shop.example"]}}, "not a header name"),
        ({"accept": []}, "accept"),
    ],
)
async def test_parameters_that_cannot_work_are_refused(params: dict[str, Any], named: str) -> None:
    """`pipeline lint` names the parameter and what is wrong with it."""
    with pytest.raises(PipelineError, match=named):
        Fetch.check(msgspec.convert(params, FetchParams, strict=False))


async def test_an_unreadable_setting_stops_the_worker() -> None:
    """A wrong allow-list is no allow-list at all: the process stops and names the setting."""
    with pytest.raises(ConfigurationError, match="SCRAPESAGA_ALLOW_ADDRESSES"):
        await fetch("http://x/", MemoryHost(settings={"ALLOW_ADDRESSES": "10.0.0.0/99"}))
    with pytest.raises(ConfigurationError, match="NO_SUCH"):
        await fetch("http://x/", auth={"bearer": "NO_SUCH", "origins": ["http://x"]})
