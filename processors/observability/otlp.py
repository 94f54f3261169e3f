"""Sends spans to an OpenTelemetry collector by OTLP over HTTP, in batches, and never at the engine's expense.

A collector that is away, slow or no collector at all costs spans, counted as such, and one log line when it begins and ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from processors.errors import ConfigurationError
from processors.observability import metrics
from processors.observability.tracing import Span, SpanRole

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger(__name__)

# A second of a busy worker; what comes beyond is dropped rather than kept in memory for a collector that is away.
QUEUED_SPANS = 8_192
_BATCH = 512
_EVERY_S = 1.0
# The exporter tries again within this time, and only once nothing is left of it gives up.
_EXPORT_WITHIN_S = 5.0
_STOP_WITHIN_S = 3.0
_PATH = "/v1/traces"


class Exporter(Protocol):
    """Delivers spans; blocks."""

    def export(self, spans: Sequence[Span]) -> str:
        """Return why the spans were not delivered; an empty text if they were. Never raises."""
        ...

    def close(self) -> None:
        """Make a delivery that is under way give up."""
        ...


class SpanQueue:
    """The Sink of a process. Use as an async context manager; `endpoint` is shown in log lines."""

    def __init__(self, exporter: Exporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._waiting: deque[Span] = deque()
        self._filled = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._away = False
        self._closing = False

    def ended(self, span: Span) -> None:
        """Queue a span, or drop it if the queue is full."""
        if len(self._waiting) >= QUEUED_SPANS:
            metrics.spans.labels("dropped").inc()
            return
        self._waiting.append(span)
        if len(self._waiting) == _BATCH:
            self._filled.set()

    async def __aenter__(self) -> Self:
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._filled.set()
        try:
            if self._sending is not None:
                await asyncio.wait_for(self._sending, _STOP_WITHIN_S)
        except TimeoutError:
            log.warning("traces were not delivered in time at the stop; they are lost", extra={"to": self._endpoint})
        finally:
            metrics.spans.labels("dropped").inc(len(self._waiting))
            self._waiting.clear()
            self._exporter.close()

    async def _send(self) -> None:
        while self._waiting or not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                await self._deliver()
                if self._closing and self._away:
                    return

    async def _deliver(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        try:
            problem = await asyncio.to_thread(self._exporter.export, batch)
        except asyncio.CancelledError:
            metrics.spans.labels("dropped").inc(len(batch))
            raise
        metrics.spans.labels("dropped" if problem else "sent").inc(len(batch))
        if problem and not self._away:
            log.warning("traces can't be delivered and are dropped: %s", problem, extra={"to": self._endpoint})
        elif self._away and not problem:
            log.info("traces are delivered again", extra={"to": self._endpoint})
        self._away = bool(problem)


def open_spans(endpoint: str, roles: Sequence[str]) -> SpanQueue:
    """Return the sink for a collector, given as its base address or with the path of its traces.

    Raises ConfigurationError if the extra isn't installed; whether anybody listens there shows later, and stops nothing.
    """
    address = endpoint if endpoint.rstrip("/").endswith(_PATH) else endpoint.rstrip("/") + _PATH
    return SpanQueue(_OtlpExporter(address, roles), address)


class _OtlpExporter:
    """OpenTelemetry's exporter, fed with our spans."""

    def __init__(self, address: str, roles: Sequence[str]) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        except ImportError as error:
            raise ConfigurationError(
                "SCRAPESAGA_OTEL_ENDPOINT: traces need the extra otel: pip install 'scrapesaga[otel]'"
            ) from error
        # It would log each of its tries.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint=address, timeout=_EXPORT_WITHIN_S)
        about = {"service.name": "scrapesaga", "service.namespace": "scrapesaga", "scrapesaga.roles": ",".join(roles)}
        with suppress(PackageNotFoundError):
            about["service.version"] = version("scrapesaga")
        # What the environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) wins.
        self._resource = Resource(about).merge(OTELResourceDetector().detect())

    def export(self, spans: Sequence[Span]) -> str:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            if self._exporter.export([self._converted(span) for span in spans]) is SpanExportResult.SUCCESS:
                return ""
        except Exception as error:  # noqa: BLE001 - a tracing library's trouble must never be the engine's
            return repr(error)
        return "no collector answers there, or it refuses; see SCRAPESAGA_OTEL_ENDPOINT"

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # theirs

    def _converted(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        kinds = {
            SpanRole.INTERNAL: SpanKind.INTERNAL,
            SpanRole.CLIENT: SpanKind.CLIENT,
            SpanRole.CONSUMER: SpanKind.CONSUMER,
        }
        trace_id, flags = int(span.context.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.context.span_id, 16), is_remote=False, trace_flags=flags),
            parent=SpanContext(trace_id, int(span.parent_id, 16), is_remote=True, trace_flags=flags)
            if span.parent_id
            else None,
            resource=self._resource,
            attributes=span.attributes,
            kind=kinds[span.kind],
            status=Status(StatusCode.ERROR, span.failed) if span.failed else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )
