"""A web in memory: what `fetch`, `enrich` and every step that asks `open_client` for its client is answered.

    site = MemorySite({
        "https://shop.example/1": "<h1>Lamp</h1>",
        "POST https://api.example/enrich": lambda request: Answer.json({"category": "light"}),
        "https://shop.example/2": Answer(status=503, headers={"Retry-After": "60"}),
        "https://shop.example/3": httpx.ConnectError("no route to host"),
    })
    ...
    site.requests    # what was asked, in its order

The steps' own code runs, with its redirects, limits and error handling; there are no sockets and no look-ups of names,
so addresses are not guarded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable

import httpx
import msgspec

from processors.http.client import open_client
from processors.http.guard import AddressPolicy
from processors.step import Json


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site answers. Without a Content-Type header it is HTML in UTF-8."""

    body: str | bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Json, status: int = 200) -> Answer:
        """Return an answer in JSON."""
        return cls(msgspec.json.encode(value), status, {"Content-Type": "application/json"})


Content = str | bytes | Answer | Exception
Handler = Callable[[httpx.Request], Content | Awaitable[Content]]


class MemorySite:
    """Answers by URL, or by method and URL; anything else is 404. A handler decides by the request; an error is raised."""

    def __init__(self, pages: Mapping[str, Content | Handler]) -> None:
        self.requests: list[httpx.Request] = []
        self._pages: dict[tuple[str, str], Content | Handler] = {}
        for address, content in pages.items():
            self.put(address, content)

    def put(self, address: str, content: Content | Handler) -> None:
        """Answer this from now on; `address` is a URL, or a method, a space and a URL."""
        method, space, url = address.partition(" ")
        self._pages[(method.upper(), _plain(url)) if space else ("", _plain(address))] = content

    def open_client(self, policy: AddressPolicy, **how: object) -> httpx.AsyncClient:
        """Return a client as the steps have it, that asks this site; what is said of connections has no meaning here."""
        return open_client(policy, transport=_Transport(self))

    async def answer(self, request: httpx.Request) -> Answer:
        """Return the answer to a request, and remember it."""
        await request.aread()
        self.requests.append(request)
        url = _plain(request.url)
        content = self._pages.get((request.method, url), self._pages.get(("", url)))
        if content is None:
            return Answer(f"{request.method} {url} is not in this MemorySite", 404)
        if callable(content):
            found = content(request)
            content = await found if isawaitable(found) else found
        if isinstance(content, Exception):
            raise content
        return content if isinstance(content, Answer) else Answer(content)


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, site: MemorySite) -> None:
        self._site = site

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._site.answer(request)
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        headers = httpx.Headers(dict(answer.headers))
        if body:
            headers.setdefault("Content-Type", "text/html; charset=utf-8")
        return httpx.Response(answer.status, headers=headers, stream=_Body(body), request=request)


class _Body(httpx.AsyncByteStream):
    """A body that was not read yet, as one from a connection."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def _plain(url: str | httpx.URL) -> str:
    return str(httpx.URL(url).copy_with(fragment=None))
