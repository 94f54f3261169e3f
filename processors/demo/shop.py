"""The sample shop: an HTTP server whose products misbehave exactly as the catalogue says."""

import asyncio
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from math import ceil

from aiohttp import web

from processors.demo.shop_pages import ShopPage, page
from processors.demo.shop_products import ProductCatalogue, ProductKind

BOMB_BYTES = 64 * 1024 * 1024
"""Far above any cap on a page, small enough not to kill the process of a client that has none."""
DRIBBLES = 10
"""Pieces that a slow body arrives in."""
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
EARLY_TOLERANCE_SECONDS = 0.02
"""A timer may fire a tick early; more than this is a client that ignores Retry-After."""


class Shop:
    """Serves a catalogue and counts every request; a slow product takes `slow_seconds`, once."""

    def __init__(self, catalogue: ProductCatalogue, *, slow_seconds: float = 2.0, retry_after_seconds: int = 1) -> None:
        self._catalogue = catalogue
        self._slow_seconds = slow_seconds
        self._retry_after_seconds = retry_after_seconds
        self._requests: Counter[int] = Counter()
        self._answers: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._too_early: Counter[int] = Counter()
        self._not_before: dict[int, float] = {}

    def application(self) -> web.Application:
        """The routes, for any aiohttp runner."""
        app = web.Application()
        app.router.add_get("/sitemap.txt", self._sitemap)
        app.router.add_get("/_stats", self._stats)
        app.router.add_get(r"/p/{number:\d+}", self._product)
        app.router.add_get(r"/go/{number:\d+}/{hop:\d+}", self._hop)
        app.router.add_get(r"/item/{number:\d+}", self._item)
        return app

    async def _sitemap(self, request: web.Request) -> web.Response:
        origin = str(request.url.origin())
        return web.Response(text="".join(f"{origin}/p/{n}\n" for n in range(1, self._catalogue.products + 1)))

    async def _stats(self, _request: web.Request) -> web.Response:
        products = {
            str(number): {
                "kind": self._catalogue.kind(number),
                "requests": requests,
                "answers": self._answers[number],
                "too_early": self._too_early[number],
            }
            for number, requests in sorted(self._requests.items())
        }
        return web.json_response({"requests": self._requests.total(), "products": products})

    async def _product(self, request: web.Request) -> web.StreamResponse:
        number = self._number(request)
        self._requests[number] += 1
        if time.time() + EARLY_TOLERANCE_SECONDS < self._not_before.pop(number, 0.0):
            self._too_early[number] += 1
        visit = self._requests[number]
        passing = visit <= self._catalogue.outage(number)
        match self._catalogue.kind(number):
            case ProductKind.RATE_LIMITED_SECONDS if passing:
                self._not_before[number] = time.time() + self._retry_after_seconds
                return self._refuse(number, 429, {"Retry-After": str(self._retry_after_seconds)})
            case ProductKind.RATE_LIMITED_DATE if passing:
                # HTTP dates have whole seconds: rounded up, so that waiting until then is always long enough.
                moment = ceil(time.time() + self._retry_after_seconds)
                self._not_before[number] = moment
                when = format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)
                return self._refuse(number, 429, {"Retry-After": when})
            case ProductKind.UNAVAILABLE if passing:
                return self._refuse(number, 503)
            case ProductKind.REDIRECTED | ProductKind.REDIRECT_LOOP:
                return self._redirect(number, 0)
            case ProductKind.SLOW_FIRST_BYTE if visit == 1:
                await asyncio.sleep(self._slow_seconds)
            case ProductKind.SLOW_BODY if visit == 1:
                return await self._dribble(request, number)
            case ProductKind.DROPPED_BODY if passing:
                return await self._drop(request, number)
            case ProductKind.TRUNCATED_GZIP:
                sent = self._page(number)
                return self._answer(number, gzipped(sent.body)[:-40], sent.content_type, gzip=True)
            case ProductKind.GZIP_BOMB:
                return self._answer(number, gzip_bomb(), "text/html; charset=utf-8", gzip=True)
            case ProductKind.NOT_FOUND:
                return self._refuse(number, 404)
            case ProductKind.GONE:
                return self._refuse(number, 410)
            case ProductKind.BROKEN:
                return self._refuse(number, 500)
            case ProductKind.EMPTY:
                return self._answer(number, b"", "text/html")
            case ProductKind.PDF:
                return self._answer(number, PDF, "application/pdf")
            case _:
                pass
        return self._whole_page(request, number)

    async def _hop(self, request: web.Request) -> web.StreamResponse:
        number = self._number(request)
        if self._catalogue.kind(number) not in (ProductKind.REDIRECTED, ProductKind.REDIRECT_LOOP):
            raise web.HTTPNotFound
        return self._redirect(number, int(request.match_info["hop"]))

    async def _item(self, request: web.Request) -> web.StreamResponse:
        return self._whole_page(request, self._number(request))

    def _number(self, request: web.Request) -> int:
        number = int(request.match_info["number"])
        if number not in self._catalogue:
            raise web.HTTPNotFound(text=f"The shop sells products 1 to {self._catalogue.products}.\n")
        return number

    def _page(self, number: int) -> ShopPage:
        return page(self._catalogue.product(number), priced=self._catalogue.kind(number) is not ProductKind.NO_PRICE)

    def _whole_page(self, request: web.Request, number: int) -> web.Response:
        sent = self._page(number)
        if self._catalogue.product(number).gzipped and "gzip" in request.headers.get("Accept-Encoding", ""):
            return self._answer(number, gzipped(sent.body), sent.content_type, gzip=True)
        return self._answer(number, sent.body, sent.content_type)

    def _answer(self, number: int, body: bytes, content_type: str, *, gzip: bool = False) -> web.Response:
        self._answers[number]["200"] += 1
        headers = {"Content-Type": content_type, "Vary": "Accept-Encoding"}
        if gzip:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    def _refuse(self, number: int, status: int, headers: dict[str, str] | None = None) -> web.Response:
        self._answers[number][str(status)] += 1
        return web.Response(status=status, headers=headers, text=f"<h1>{status}</h1>\n", content_type="text/html")

    def _redirect(self, number: int, hop: int) -> web.Response:
        """One step of the chain: some addresses are relative, and a loop leads back to the start."""
        codes = self._catalogue.redirects(number)
        if hop >= len(codes):
            raise web.HTTPNotFound
        if hop + 1 < len(codes):
            location = f"/go/{number}/{hop + 1}" if hop % 2 == 0 else str(hop + 1)
        else:
            looping = self._catalogue.kind(number) is ProductKind.REDIRECT_LOOP
            location = f"/p/{number}" if looping else f"/item/{number}"
        self._answers[number][str(codes[hop])] += 1
        return web.Response(status=codes[hop], headers={"Location": location})

    async def _dribble(self, request: web.Request, number: int) -> web.StreamResponse:
        sent = self._page(number)
        response = web.StreamResponse(headers={"Content-Type": sent.content_type})
        response.content_length = len(sent.body)
        await response.prepare(request)
        step = ceil(len(sent.body) / DRIBBLES)
        for start in range(0, len(sent.body), step):
            await asyncio.sleep(self._slow_seconds / DRIBBLES)
            await response.write(sent.body[start : start + step])
        self._answers[number]["200"] += 1
        return response

    async def _drop(self, request: web.Request, number: int) -> web.StreamResponse:
        sent = self._page(number)
        response = web.StreamResponse(headers={"Content-Type": sent.content_type})
        response.content_length = len(sent.body)
        await response.prepare(request)
        await response.write(sent.body[: len(sent.body) // 2])
        if request.transport is not None:
            request.transport.close()
        self._answers[number]["dropped"] += 1
        return response


def gzipped(body: bytes) -> bytes:
    """A gzip stream, the same bytes for the same input."""
    compressor = zlib.compressobj(wbits=31)
    return compressor.compress(body) + compressor.flush()


@cache
def gzip_bomb() -> bytes:
    """A page that inflates a thousandfold, made without ever holding it."""
    compressor = zlib.compressobj(level=9, wbits=31)
    chunk = b" " * 65536
    compress: Callable[[bytes], bytes] = compressor.compress
    parts = [compress(b"<!DOCTYPE html><html><head><title>Sample Shop</title></head><body>")]
    parts += [compress(chunk) for _ in range(BOMB_BYTES // len(chunk))]
    return b"".join([*parts, compressor.flush()])
