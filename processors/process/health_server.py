"""What a process shows of itself over HTTP: metrics, readiness and liveness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

#: Where a process answers: what is listed there, status 503 if it is anything, are reasons against.
PATHS = (READY, LIVE) = ("/ready", "/live")


class HealthServer:
    """Serves /metrics, /ready and /live. Reasons against are listed in the body, with status 503."""

    def __init__(
        self,
        host: str,
        port: int,
        ready: Callable[[], list[str]],
        alive: Callable[[], list[str]],
        before_scrape: Callable[[], Awaitable[None]],
    ) -> None:
        """`before_scrape` brings those metrics up to date that nothing keeps up meanwhile; it is bounded in time."""
        self._host, self._port = host, port
        self._before_scrape = before_scrape
        self._probes = {READY: ready, LIVE: alive}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        for path in self._probes:
            application.router.add_get(path, self._probe)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._before_scrape()
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _probe(self, request: web.Request) -> web.Response:
        reasons = self._probes[request.path]()
        return web.json_response({"ok": not reasons, "reasons": reasons}, status=503 if reasons else 200)
