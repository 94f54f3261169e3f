"""One saga's trace over three processes, as a real OTLP receiver gets it; and what the log lines of the same run say."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.broker.observed_world import Engine, until

pytestmark = pytest.mark.broker

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
SECRET = "s3cret-of-a-step"  # noqa: S105
PASSWORD = "pa55word-of-the-registry"  # noqa: S105
FETCHING = """
name: fetching
record: product
steps:
  - use: fetch
    with: {auth: {bearer: PAGE_TOKEN}}
  - {use: "tests.broker.observed_steps:Obedient", name: first}
  - {use: "tests.broker.observed_steps:Obedient", name: second}
"""


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


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A collector on loopback."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def engine(kafka_servers: str, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Engine]:
    """An engine that tells the receiver, with one saga that fetched, one undone and one parked."""
    extra = {
        "SCRAPESAGA_OTEL_ENDPOINT": receiver.url,
        "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
        "SCRAPESAGA_SASL_MECHANISM": "PLAIN",
        "PAGE_TOKEN": SECRET,
    }
    folder = tmp_path_factory.mktemp("traces")
    with Engine(kafka_servers, folder, "traces", extra, {"fetching": FETCHING}) as engine:
        parent = f"00-{TRACE_ID}-{SPAN_ID}-01"
        engine.submit("done", "fetching", traceparent=parent, url=f"{receiver.url}/p?token={SECRET}", first="retry")
        engine.submit("undone", second="fail")
        engine.submit("stuck", second="fail", undo="refuse")
        engine.submit("quiet", traceparent=f"00-{'1' * 32}-{SPAN_ID}-00")
        wanted = {"COMPLETED": 2, "COMPENSATED": 1, "PARKED": 1}
        until(lambda: engine.phases() == wanted, f"{wanted} in scrape.sagas")
        # Each process tells its own spans, in batches of its own: of each saga the coordinator's last and the workers' last.
        ends = (
            ("done", "saga fetching"),
            ("done", "second execute"),
            ("undone", "saga default"),
            ("undone", "first compensate"),
            ("stuck", "saga parked"),
        )
        until(
            lambda: all(any(one.name == name for one in receiver.of(job)) for job, name in ends),
            "the last span of each saga from each process",
        )
        yield engine


def test_a_request_is_followed_through_every_process(engine: Engine, receiver: Receiver) -> None:
    """intake, saga, each attempt and its HTTP call hang together, below the span that the request came with."""
    intake, saga = receiver.one("done", "intake"), receiver.one("done", "saga fetching")
    assert intake.trace_id == TRACE_ID and intake.parent_id == SPAN_ID
    assert saga.parent_id == intake.span_id and not saga.failed
    attempts = [one for one in receiver.of("done") if one.name.endswith(" execute")]
    assert sorted(one.name for one in attempts) == ["fetch execute", "first execute", "first execute", "second execute"]
    assert {one.parent_id for one in attempts} == {saga.span_id}
    assert {one.roles for one in attempts} == {"intake,first,second,fetch"} and saga.roles == "coordinator"
    assert {one.service for one in receiver.of("done")} == {"scrapesaga"}
    assert [one.failed for one in attempts if one.attributes["scrapesaga.attempt"] == 2] == [False]
    fetched, called = receiver.one("done", "fetch execute"), receiver.one("done", "GET")
    assert called.parent_id == fetched.span_id
    assert called.attributes["http.response.status_code"] == 200
    assert called.attributes["url.full"] == f"{receiver.url}/p"
    assert fetched.start_ns <= called.start_ns <= called.end_ns <= fetched.end_ns


def test_a_compensation_is_in_the_trace(engine: Engine, receiver: Receiver) -> None:
    """A request without a trace begins one; its saga's failure and its compensation are told."""
    intake, saga = receiver.one("undone", "intake"), receiver.one("undone", "saga default")
    undo = receiver.one("undone", "first compensate")
    assert intake.parent_id == "" and saga.failed and undo.parent_id == saga.span_id and not undo.failed
    assert saga.attributes["scrapesaga.failed_step"] == "second"
    assert receiver.one("undone", "second execute").failed


def test_a_parked_saga_shows_at_once(engine: Engine, receiver: Receiver) -> None:
    """The moment of parking is told, long before the saga can end."""
    assert receiver.one("stuck", "saga parked").failed
    assert not [one for one in receiver.of("stuck") if one.name == "saga default"]


def test_what_nobody_samples_is_only_carried_on(engine: Engine, receiver: Receiver) -> None:
    """A request that came unsampled has no spans, and its records carry its context with that flag."""
    assert not receiver.of("quiet")
    topic = engine.catalogue.commands("second").name
    (found,) = [record for record in engine.reader.records(topic) if record.key == b"quiet"]
    assert dict(found.headers)["traceparent"].startswith(b"00-" + b"1" * 32) and found.headers[0][1].endswith(b"-00")


def test_every_record_of_a_traced_saga_carries_its_context(engine: Engine, receiver: Receiver) -> None:
    """Commands carry the saga's context, results and pages that of the attempt which sent them."""
    saga = receiver.one("done", "saga fetching")
    commands = engine.reader.records(engine.catalogue.commands("fetch").name)
    assert {dict(record.headers)["traceparent"] for record in commands} == {f"00-{TRACE_ID}-{saga.span_id}-01".encode()}
    attempt = receiver.one("done", "fetch execute")
    expected = f"00-{TRACE_ID}-{attempt.span_id}-01".encode()
    for topic in (engine.catalogue.results("fetch").name, engine.catalogue.pages.name):
        assert {dict(record.headers)["traceparent"] for record in engine.reader.records(topic)} == {expected}


def test_no_secret_is_told(engine: Engine, receiver: Receiver) -> None:
    """The token in the header and in the query reached the page, and neither a span nor a log line."""
    assert any(SECRET in headers.get("Authorization", "") for headers in receiver.asked)
    assert not any("traceparent" in map(str.lower, headers) for headers in receiver.asked)
    assert SECRET not in repr(receiver.spans)
    for role in (engine.coordinator, engine.worker):
        assert SECRET not in json.dumps(role.lines())


def test_a_change_of_state_is_one_line_of_json(engine: Engine) -> None:
    """Each line is an object with a time, a level and a message; a saga's has its job, step, seq and trace."""
    lines = engine.coordinator.lines()
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    (done,) = [line for line in lines if line.get("job_id") == "done"]
    state = engine.states()["done"]
    assert (done["message"], done["seq"], done["trace_id"]) == ("saga completed", state["seq"], TRACE_ID)
    assert done["step"] == "second" and done["run"] == state["run"]
