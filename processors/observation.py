"""What a process shows of itself: metrics, readiness and liveness over HTTP, and its log lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# Attributes that every LogRecord has; what is beyond them was passed as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One event, one line of JSON, with the event's fields beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """The same for people: time, level, message, fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(
            f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD and value != ""
        )
        head, newline, rest = super().format(record).partition("\n")
        return f"{head}  {fields}{newline}{rest}" if fields else f"{head}{newline}{rest}"


def configure_logging(level: str, style: str) -> None:
    """Send log lines to standard error in the given style, "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # A line for each request would drown ours, and would show URLs with their query.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


class Observation:
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
        self._probes = {"/ready": ready, "/live": alive}
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
