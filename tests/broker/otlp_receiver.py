"""An OTLP/HTTP collector on loopback, which reads what exporters post, and serves a page too."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it came over the wire."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    service: str
    roles: str
    start_ns: int
    end_ns: int


class Receiver:
    """An OTLP/HTTP collector, which serves a page too."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.asked: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver.asked.append(dict(self.headers.items()))
                self._answer(b"<h1>A page</h1>", "text/html")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                receiver.spans.extend(spans_in(body))
                self._answer(b"", "application/x-protobuf")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def of(self, job_id: str) -> list[Received]:
        """Return the spans of a job's trace, calls included."""
        traces = {one.trace_id for one in self.spans if one.attributes.get("scrapesaga.job_id") == job_id}
        return [one for one in self.spans if one.trace_id in traces]

    def one(self, job_id: str, name: str) -> Received:
        """Return the only span of that name in a job's trace."""
        found = [one for one in self.of(job_id) if one.name == name]
        assert len(found) == 1, (name, [one.name for one in self.of(job_id)])
        return found[0]


def spans_in(body: bytes) -> Iterator[Received]:
    """Read what an exporter posts."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes},
                    span.status.code == 2,
                    about["service.name"],
                    about["scrapesaga.roles"],
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                )
