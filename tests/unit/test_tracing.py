"""Trace contexts travel as the standard says, spans tell what happened without secrets, and no collector can hurt a worker."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context

import httpx
import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from processors.observability import otlp
from processors.observability.otlp import QUEUED_SPANS, SpanQueue, open_spans
from processors.observability.tracing import (
    Call,
    Span,
    SpanRole,
    TraceContext,
    Tracing,
    bare_url,
    begin_attempt,
    command_headers,
    current_headers,
    new_trace,
    of_saga,
    parse,
    saga_span,
)
from processors.saga.commands import outstanding
from processors.saga.events import Failed, Succeeded
from processors.saga.state import Phase
from tests.sagas import compensated, compensating, completed, parked, running

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-00"


class Kept:
    """A sink that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def ended(self, span: Span) -> None:
        """Keep."""
        self.spans.append(span)


@pytest.mark.parametrize("text", [PARENT, UNSAMPLED, f"cc-{TRACE_ID}-b7ad6b7169203331-01-what-the-future-brings"])
def test_a_traceparent_is_read_as_the_standard_says(text: str) -> None:
    """Trace, span and the sampled flag are read, of later versions too."""
    found = parse(text)
    assert found is not None and (found.trace_id, found.span_id) == (TRACE_ID, "b7ad6b7169203331")
    assert found.sampled is (text is not UNSAMPLED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"00-{TRACE_ID}-b7ad6b7169203331",
        f"00-{TRACE_ID}-b7ad6b7169203331-01-more",
        f"ff-{TRACE_ID}-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-b7ad6b7169203331-01",
        PARENT + "\n",
    ],
)
def test_what_is_no_traceparent_is_no_trace(text: str) -> None:
    """The standard asks to ignore it: a request is not refused for it."""
    assert parse(text) is None and of_saga(text, "j", 1) is None


def test_a_share_of_requests_begins_a_trace_and_always_the_same() -> None:
    """The share is kept roughly, the same request gets the same answer, 0 and 100 are exact."""
    seeds = [f"urls-0@{number}" for number in range(2000)]
    traced = [seed for seed in seeds if new_trace(seed, 25)]
    assert 0.2 < len(traced) / len(seeds) < 0.3
    assert [seed for seed in seeds if new_trace(seed, 25)] == traced
    assert not any(new_trace(seed, 0) for seed in seeds)
    assert len({context.trace_id for seed in seeds if (context := new_trace(seed, 100))}) == len(seeds)


def test_a_request_continues_its_trace_or_begins_one() -> None:
    """With a parent intake's span is its child; without one it is the first; unsampled ones are only carried on."""
    sink = Kept()
    tracing = Tracing(sink)
    carried = parse(tracing.accepted(parse(PARENT), "urls-0@1", 5, {"scrapesaga.job_id": "j"}))
    began = parse(tracing.accepted(None, "urls-0@2", 5, {}))
    assert carried is not None and began is not None
    child, first = sink.spans
    assert (child.parent_id, child.context, child.start_ns) == ("b7ad6b7169203331", carried, 5_000_000)
    assert carried.trace_id == TRACE_ID
    assert (first.parent_id, first.context) == ("", began)
    unsampled = parse(tracing.accepted(parse(UNSAMPLED), "urls-0@3", 5, {}))
    assert unsampled is not None and not unsampled.sampled and len(sink.spans) == 2
    assert Tracing(sink, 0).accepted(None, "urls-0@4", 5, {}) == "" and len(sink.spans) == 2


@pytest.mark.parametrize(("job", "failed"), [(completed(), ""), (compensated(), "no")], ids=["done", "undone"])
def test_a_run_is_one_span_from_its_start_to_its_end(job: object, failed: str) -> None:
    """The span's id is the one that commands name as their parent, its error is the reason of the failure."""
    sink = Kept()
    saga = replace(job.state, trace=PARENT, url="http://ann:pw@shop.test/p?token=s3cret#x")  # type: ignore[attr-defined]
    saga_span(sink, saga)
    (span,) = sink.spans
    assert span.context == of_saga(PARENT, saga.job_id, saga.run) and span.parent_id == "b7ad6b7169203331"
    assert (span.start_ns, span.end_ns) == (saga.started_ms * 1_000_000, saga.updated_ms * 1_000_000)
    assert span.failed == failed
    assert span.attributes["scrapesaga.job_id"] == "j" and span.attributes["url.full"] == "http://shop.test/p"


def test_a_parked_run_is_a_moment_below_its_span() -> None:
    """What waits for a person shows in the trace at once; the run's own span comes when it ends."""
    sink = Kept()
    saga = replace(parked().state, trace=PARENT)
    saga_span(sink, saga)
    (span,) = sink.spans
    whole = of_saga(PARENT, saga.job_id, saga.run)
    assert whole is not None and span.parent_id == whole.span_id and span.start_ns == span.end_ns
    assert saga.phase is Phase.PARKED and span.failed


def test_a_run_that_goes_on_is_not_told_yet() -> None:
    """Neither while it runs nor while it is undone: its end is not known."""
    sink = Kept()
    for job in (running(), compensating()):
        saga_span(sink, replace(job.state, trace=PARENT))
    assert not sink.spans


def test_an_unsampled_saga_tells_nothing_and_carries_on() -> None:
    """Its commands name its context, with the flag that says so."""
    sink = Kept()
    saga = replace(running().state, trace=UNSAMPLED)
    saga_span(sink, saga)
    (command,) = outstanding(saga)
    ((name, value),) = command_headers(command)
    assert name == "traceparent" and value.endswith(b"-00") and not sink.spans


def test_an_attempt_and_its_calls_are_one_below_the_other() -> None:
    """An attempt is a child of its saga, a call of its attempt; records sent meanwhile carry the attempt's context."""
    sink = Kept()
    (command,) = outstanding(replace(running().state, trace=PARENT))

    def work() -> None:
        attempt = begin_attempt(sink, command, command_headers(command), "scrape.a.commands", 12.4)
        assert attempt is not None
        assert current_headers() == attempt.context.headers()
        with Call("GET", httpx.URL("http://ann:pw@shop.test/p?token=s3cret")) as call:
            call.answered(503)
        with pytest.raises(httpx.ConnectError), Call("GET", "http://shop.test/q?token=s3cret"):
            raise httpx.ConnectError("s3cret")
        attempt.end(Succeeded("j", 1, "a", 2, b""))

    copy_context().run(work)
    answered, broken, attempt = sink.spans
    saga = of_saga(PARENT, command.job_id, command.run)
    assert saga is not None and attempt.parent_id == saga.span_id
    assert {answered.parent_id, broken.parent_id} == {attempt.context.span_id}
    assert {span.context.trace_id for span in sink.spans} == {TRACE_ID}
    assert (answered.kind, answered.failed, broken.failed) == (SpanRole.CLIENT, "503", "ConnectError")
    assert answered.attributes["url.full"] == "http://shop.test/p"
    assert "s3cret" not in repr(sink.spans) and "pw" not in repr(sink.spans)
    assert attempt.attributes["scrapesaga.queued_ms"] == 12 and attempt.attributes["scrapesaga.outcome"] == "succeeded"
    assert current_headers() == ()


def test_a_process_that_tells_nothing_carries_the_context_on() -> None:
    """Without a sink, records name the saga's span: an attempt that nobody tells of must be nobody's parent."""
    (command,) = outstanding(replace(running().state, trace=PARENT))

    def work() -> None:
        attempt = begin_attempt(None, command, (), "scrape.a.commands", 0)
        assert attempt is not None
        assert current_headers() == command_headers(command)
        with Call("GET", "http://shop.test/") as call:
            call.answered(200)
        attempt.end(Failed("j", 1, "a", 2, "no"))

    copy_context().run(work)


def test_a_saga_without_a_trace_costs_nothing() -> None:
    """No attempt is kept and no header is sent."""
    (command,) = outstanding(replace(running().state, trace=""))
    assert begin_attempt(Kept(), command, (), "scrape.a.commands", 0) is None
    assert command_headers(command) == () == current_headers()


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://ann:pw@shop.test:8443/a/b?key=1#f", "https://shop.test:8443/a/b"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("http://[", ""),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, bare: str) -> None:
    """User name, password, query and fragment stay out of spans."""
    assert bare_url(url) == bare


class Collector:
    """An exporter whose deliveries the test watches, and may refuse or hold up."""

    def __init__(self) -> None:
        self.delivered: list[Span] = []
        self.problem = ""
        self.held_up = threading.Event()
        self.held_up.set()

    def export(self, spans: Sequence[Span]) -> str:
        """Deliver, unless told otherwise."""
        self.held_up.wait(30)
        if not self.problem:
            self.delivered.extend(spans)
        return self.problem

    def close(self) -> None:
        """Let go."""
        self.held_up.set()


SPAN = Span("s", TraceContext("1" * 32, "2" * 16), "", 0, 1, {})


def counted(outcome: str) -> float:
    """Return how many spans had an outcome."""
    return REGISTRY.get_sample_value("scrapesaga_spans_total", {"outcome": outcome}) or 0.0


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def test_spans_arrive_and_the_rest_of_them_at_the_stop() -> None:
    """What was queued is delivered before the process ends."""
    collector = Collector()
    async with SpanQueue(collector, "http://collector") as queue:
        for _ in range(1300):
            queue.ended(SPAN)
    assert len(collector.delivered) == 1300


async def test_a_collector_that_is_away_costs_spans_and_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often delivery fails, it is logged once, counted, and told again when it works."""
    monkeypatch.setattr(otlp, "_EVERY_S", 0.01)
    caplog.set_level(logging.INFO, "processors.observability.otlp")
    collector = Collector()
    collector.problem = "nobody there"
    dropped = counted("dropped")
    async with SpanQueue(collector, "http://collector") as queue:
        for number in range(3):
            queue.ended(SPAN)
            await until(lambda number=number: counted("dropped") == dropped + number + 1)  # type: ignore[misc]
        collector.problem = ""
        queue.ended(SPAN)
        await until(lambda: len(collector.delivered) == 1)
    assert [line.levelname for line in caplog.records] == ["WARNING", "INFO"]


async def test_a_collector_that_hangs_costs_no_memory_and_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded, and a stop waits a few seconds at most."""
    monkeypatch.setattr(otlp, "_STOP_WITHIN_S", 0.2)
    collector = Collector()
    collector.held_up.clear()
    dropped = counted("dropped")
    async with asyncio.timeout(60):
        async with SpanQueue(collector, "http://collector") as queue:
            for _ in range(QUEUED_SPANS + 100):
                queue.ended(SPAN)
            assert counted("dropped") == dropped + 100
    assert counted("dropped") == dropped + 100 + QUEUED_SPANS


async def test_an_endpoint_where_nobody_listens_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The real exporter against a closed port: the span is dropped, one line is logged."""
    dropped = counted("dropped")
    async with asyncio.timeout(60):
        async with open_spans("http://127.0.0.1:9", ("fetch",)) as queue:
            queue.ended(SPAN)
            await until(lambda: counted("dropped") == dropped + 1)
    assert [line.name for line in caplog.records if line.levelno >= logging.WARNING] == [
        "processors.observability.otlp"
    ]
