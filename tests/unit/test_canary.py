"""A canary in the settings, sent through every failure of fetch and enrich to servers that repeat it in every spelling.

What comes out (answers, errors, pages, ledger entries, log lines with their tracebacks, spans, counters) is searched.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import zstandard

from processors.errors import StepError
from processors.observability.log_format import JsonLines, redact_from_logs
from processors.observability.tracing import Span, begin_attempt
from processors.saga.commands import StepCommand
from processors.saga.state import Action
from processors.step import Step, StepCall
from processors.steps.enrich import Enrich
from processors.steps.enrich_params import EnrichParams
from processors.steps.fetch import Fetch
from processors.steps.fetch_params import FetchParams
from processors.testing import MemoryHost, run_step, step_call
from tests.canary import SPELLINGS, found_in

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

CANARY = "Tk/9fQ2+Vb7&Lm4=z%41"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#: An echo in one spelling, as a whole answer; `at` is the server's own address.
Answer = Callable[[bytes, str], bytes]


def answered(status: str = "200 OK", body: bytes = b"", kind: str = "text/html", **headers: str) -> bytes:
    """An answer as it goes over the wire."""
    lines = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def utf8(echo: bytes) -> str:
    return echo.decode("utf-8", "replace")


FETCH: dict[str, Answer] = {
    "page": lambda e, at: answered(body=b"<h1>" + e + b"</h1>"),
    "UTF-16 page": lambda e, at: answered(body=utf8(b"<h1>" + e).encode("utf-16"), kind="text/html; charset=utf-16"),
    "gzip page": lambda e, at: answered(body=gzip.compress(b"<h1>" + e), Content_Encoding="gzip"),
    "headers": lambda e, at: answered(body=b"x", ETag=utf8(e), Last_Modified=utf8(e), kind=f"text/html; charset={utf8(e)}"),
    "another type": lambda e, at: answered(body=b"x", kind=utf8(e)),
    "coding": lambda e, at: answered(body=b"\0\1\2", Content_Encoding=utf8(e)),
    "not found": lambda e, at: answered(f"404 {utf8(e)}", e),
    "refused": lambda e, at: answered("401 Unauthorized", e, WWW_Authenticate=utf8(e)),
    "later": lambda e, at: answered("503 Wait", e, Retry_After=utf8(e)),
    "status line": lambda e, at: b"HTTP/1.1 " + e + b"\r\n\r\n",
    "no HTTP": lambda e, at: e + b"\r\n\r\n",
    "broken gzip": lambda e, at: answered(body=e, Content_Encoding="gzip"),
    "short body": lambda e, at: b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n" + e,
    "bad header": lambda e, at: b"HTTP/1.1 200 OK\r\n" + e + b"\r\n\r\n",
    "too large": lambda e, at: answered(body=e * 2_000),
    "redirect": lambda e, at: answered("302 Found", Location=f"{at}/page/{utf8(e)}?q={utf8(e)}#{utf8(e)}"),
    "redirect to a host": lambda e, at: answered("302 Found", Location=f"http://{utf8(e)}.invalid/"),
    "redirect to a user": lambda e, at: answered("302 Found", Location=f"http://{utf8(e)}@127.0.0.1/"),
    "redirect to a port": lambda e, at: answered("302 Found", Location=f"http://127.0.0.1:{utf8(e)}/"),
    "redirect inside": lambda e, at: answered("302 Found", Location=f"http://127.9.9.9/{utf8(e)}"),
    "redirect elsewhere": lambda e, at: answered("302 Found", Location=f"ftp://127.0.0.1/{utf8(e)}"),
    "cookie": lambda e, at: answered("302 Found", Location=f"{at}/page/x", Set_Cookie=f"a={utf8(e)}"),
    "refresh": lambda e, at: answered(body=b'<meta http-equiv="refresh" content="0;url=/page/' + e + b'">'),
    "refresh header": lambda e, at: answered(body=b"x", Refresh=f"0;url=/page/{utf8(e)}"),
}  # fmt: skip


def quoted(echo: bytes) -> bytes:
    """An echo as a string in JSON, its own escapes as they are where they can be read."""
    text = b'{"category": "' + echo + b'"}'
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.dumps({"category": utf8(echo)}).encode()
    return text


ENRICH: dict[str, Answer] = {
    "answer": lambda e, at: answered(body=quoted(e), kind="application/json"),
    "a list": lambda e, at: answered(body=b"[" + quoted(e) + b"]", kind="application/json"),
    "no JSON": lambda e, at: answered(body=e, kind="application/json"),
    "bad request": lambda e, at: answered("400 Bad", e),
    "refused": lambda e, at: answered(f"401 {utf8(e)}", quoted(e)),
    "conflict": lambda e, at: answered("409 Conflict", quoted(e)),
    "too many": lambda e, at: answered("429 Later", e, Retry_After=utf8(e)),
    "error": lambda e, at: answered("500 Oops", e * 50),
    "redirect": lambda e, at: answered("302 Found", e, Location=f"/{utf8(e)}"),
    "status line": lambda e, at: b"HTTP/1.1 " + e + b"\r\n\r\n",
    "no HTTP": lambda e, at: e + b"\r\n\r\n",
    "coding": lambda e, at: answered(body=b"\0\1\2", Content_Encoding=utf8(e)),
    "broken gzip": lambda e, at: answered(body=e, Content_Encoding="gzip"),
    "short body": lambda e, at: b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + e,
    "too large": lambda e, at: answered(body=quoted(e * 2_000), kind="application/json"),
}  # fmt: skip


class Watched(MemoryHost):
    """A host as the engine's: a secret that a step reads is kept out of log lines, too."""

    def secret(self, name: str) -> str:
        value = super().secret(name)
        redact_from_logs((value,))
        return value


class Everything:
    """All that leaves the process, as bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def ended(self, span: Span) -> None:
        """Take a span."""
        self.parts.append(repr(span).encode())

    def add(self, host: MemoryHost) -> None:
        """Take what lies in the topics, and what was counted."""
        for record in host.broker.history:
            value = record.value or b""
            page = zstandard.decompress(value) if value.startswith(b"\x28\xb5\x2f\xfd") else value
            self.parts += [page, record.key, *record.headers.values()]
        self.parts.append(repr(host.counted).encode())


@contextmanager
def logged(everything: Everything) -> Iterator[None]:
    """Take every log line, of every level, as it would be written."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            everything.parts.append(self.format(record).encode())

    handler, root = Lines(level=logging.DEBUG), logging.getLogger()
    handler.setFormatter(JsonLines())
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@asynccontextmanager
async def echoing(answers: dict[str, Answer]) -> AsyncIterator[str]:
    """Answer /NAME/SPELLING as told, with the canary in that spelling, and /page/... with the path that was asked for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        at = f"http://127.0.0.1:{writer.get_extra_info('sockname')[1]}"
        if path.startswith("/page/"):
            writer.write(answered("404 Gone", path.encode()))
        else:
            _, name, spelling = path.split("?")[0].split("/")
            echo = list(SPELLINGS.values())[int(spelling)](CANARY).encode()
            writer.write(list(answers.values())[int(name)](echo, at))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def attempt(step: Step, url: str, everything: Everything, key: str) -> None:
    """Run and compensate a step as a worker does, and take what it says."""
    call = StepCall(
        job_id=key, run=1, pipeline="p", step=step.name, seq=1, attempt=1, key=key, url=url, address=url,
        timeout=timedelta(seconds=10), record={"title": "Tent"},
    )  # fmt: skip
    command = StepCommand(
        key, 1, 1, step.name, Action.EXECUTE, 1, key, "plan", url, b"", "", 0, {}, b"", TRACE, url
    )  # fmt: skip
    begin_attempt(everything, command, (), "topic", 0.0)
    for act in (step.run, step.compensate):
        try:
            output = await act(call)
            everything.parts.append(repr(output).encode())
            everything.parts.append(msgspec.json.encode(output) if output is not None else b"")
        except StepError as error:
            everything.parts.append(error.reason.encode("utf-8", "replace"))
            logging.getLogger(__name__).exception("a step raised an unexpected error", extra={"reason": str(error)})


AUTH: dict[str, dict[str, Any]] = {
    "bearer": {"bearer": "CANARY"},
    "basic": {"basic": {"user": "bird", "password": "CANARY"}},
    "header": {"header": {"name": "X-Api-Key", "secret": "CANARY"}},
}


def searched(everything: Everything) -> None:
    """Fail with what the canary was found in."""
    for part in set(everything.parts):
        assert not found_in(part[:20_000], CANARY), part[:2_000]


def each(answers: dict[str, Answer], others: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every answer with one way to authenticate, and some with the others."""
    return [(name, "bearer") for name in answers] + [(name, auth) for name in others for auth in ("basic", "header")]


@pytest.mark.parametrize(("name", "auth"), each(FETCH, ("page", "redirect")))
async def test_nothing_that_fetch_leaves_behind_has_the_canary(name: str, auth: str) -> None:
    """Pages, headers, redirects, errors, spans, lines: whatever the site does with what it was sent."""
    host = Watched(settings={"ALLOW_ADDRESSES": "127.0.0.1"}, secrets={"CANARY": CANARY})
    everything = Everything()
    with logged(everything):
        async with echoing(FETCH) as at:
            params = {"auth": {**AUTH[auth], "origins": [at]}, "max_bytes": 20_000, "max_redirects": 2}
            step = Fetch("fetch", msgspec.convert(params, FetchParams, strict=False), host)
            await step.open()
            for spelling in range(len(SPELLINGS)):
                await attempt(step, f"{at}/{list(FETCH).index(name)}/{spelling}", everything, f"j{spelling}")
            await step.close()
    everything.add(host)
    assert len(everything.parts) > len(SPELLINGS)
    searched(everything)


@pytest.mark.parametrize(("name", "auth"), each(ENRICH, ("answer", "bad request")))
async def test_nothing_that_enrich_leaves_behind_has_the_canary(name: str, auth: str) -> None:
    """Answers, refusals, what the ledger keeps, what a cancellation is told."""
    host = Watched(settings={"ALLOW_ADDRESSES": "127.0.0.1"}, secrets={"CANARY": CANARY})
    everything = Everything()
    with logged(everything):
        async with echoing(ENRICH) as at:
            for spelling in range(len(SPELLINGS)):
                url = f"{at}/{list(ENRICH).index(name)}/{spelling}"
                params = {
                    "url": url, "auth": AUTH[auth], "cost": 0.01, "max_bytes": 20_000,
                    "response": {"category": "category"}, "cancel": {"url": f"{url}?key={{key}}"},
                }  # fmt: skip
                step = Enrich("enrich", msgspec.convert(params, EnrichParams, strict=False), host)
                await step.open()
                await attempt(step, url, everything, f"j{spelling}:1:enrich")
                await step.close()
    everything.add(host)
    assert len(everything.parts) > len(SPELLINGS)
    searched(everything)


async def test_the_canary_would_be_found() -> None:
    """Without hiding, the very same way shows it: in pages, errors and lines, in all spellings."""
    for (name, answer), spelling in itertools.product(FETCH.items(), SPELLINGS.values()):
        if name not in ("gzip page", "UTF-16 page"):
            assert found_in(answer(spelling(CANARY).encode(), "http://x"), CANARY)


@pytest.mark.parametrize("padding", range(150, 200, 7))
async def test_no_cut_leaves_half_a_canary(padding: int) -> None:
    """Long texts are cut after secrets were taken out, not before: half of one is found by nobody."""
    pad = "p" * padding
    answers: dict[str, Answer] = {
        "path": lambda e, at: answered("302 Found", Location=f"{at}/page/{pad}{utf8(e)}"),
        "type": lambda e, at: answered(body=b"x", kind=f"video/{pad[: padding - 120]}{utf8(e)}"),
        "etag": lambda e, at: answered(body=b"x", ETag=pad * 5 + "q" * (1000 - 6 * padding + 150) + utf8(e)),
        "coding": lambda e, at: answered(body=b"\0", Content_Encoding=pad[: padding - 110] + utf8(e)),
    }
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"}, secrets={"CANARY": CANARY})
    everything = Everything()
    async with echoing(answers) as at:
        params = {"auth": {"bearer": "CANARY", "origins": [at]}}
        step = Fetch("fetch", msgspec.convert(params, FetchParams, strict=False), host)
        await step.open()
        for name in range(len(answers)):
            await attempt(step, f"{at}/{name}/0", everything, f"j{name}")
        await step.close()
    everything.add(host)
    for part in everything.parts:
        assert CANARY[:6].encode() not in part and quote(CANARY[:6], safe="").encode() not in part, part[:500]


@pytest.mark.parametrize("secret", ["2024", "available", "hunter2"])
async def test_a_page_with_a_word_like_the_secret_is_archived_as_served(
    secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A short or common secret is warned of at start, and hidden where it travels as one: in the header, whole."""
    pages: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        credential = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization"))
        pages.append(b"<h1>Lamp %b edition</h1><i>%b</i>" % (secret.encode(), credential))
        writer.write(answered(body=pages[0]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    at = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    host = MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"}, secrets={"PASSWORD": secret})
    params = {"auth": {"basic": {"user": "shopper-7", "password": "PASSWORD"}, "origins": [at]}}
    async with server:
        call = step_call("fetch", url=f"{at}/{secret}", timeout=timedelta(seconds=5))
        output = (await run_step(Fetch, call, params=params, host=host)).returned()
    page = zstandard.decompress(host.records("pages")[0].value or b"")
    assert page == b"<h1>Lamp %b edition</h1><i>Authorization: Basic ***</i>" % secret.encode()
    assert output.data["final_url"] == f"{at}/{secret}"
    assert "secret PASSWORD" in caplog.text and secret not in caplog.text
