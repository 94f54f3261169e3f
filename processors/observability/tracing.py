"""Traces: which spans a saga has, and how their context travels from process to process.

A request's W3C `traceparent` header on scrape.urls is continued; without one intake begins a trace. The context then lies in
the saga's state, and every record that the engine sends for the saga carries it as a Kafka header again:

    (the request's span)
    └── intake                            from the request's record to its submission
        └── saga <pipeline>               one run, told when it ends; its id follows from job and run
            ├── <step> execute            one attempt; so with compensate and confirm
            │   └── GET, POST             one HTTP call of the attempt
            └── saga parked               a moment: a person has to decide

A saga without a trace costs a look at an empty text. Spans are values; where they go is the business of a Sink.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol
from urllib.parse import urlsplit

from processors.redaction.secret_search import redact_known
from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, Confirmed, Reply, Succeeded
from processors.saga.state import ENDED, Phase, Saga

#: The header's name, in Kafka and in HTTP.
TRACEPARENT = "traceparent"

# W3C Trace Context, level 1: version, trace id, span id, flags; later versions may add parts.
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01
_MAX_REASON = 500

Headers = tuple[tuple[str, bytes], ...]
Attributes = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span as others refer to it; `sampled` says that somebody records it."""

    trace_id: str
    span_id: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def to(self, span_id: str) -> TraceContext:
        """Return the context of another span of this trace."""
        return replace(self, span_id=span_id)

    def headers(self) -> Headers:
        """Return the context as a record carries it."""
        return ((TRACEPARENT, str(self).encode()),)


def parse(text: str) -> TraceContext | None:
    """Return the context that a traceparent tells; None for what is none, as the standard asks."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if not int(found[2], 16) or not int(found[3], 16):
        return None
    return TraceContext(found[2], found[3], bool(int(found[4], 16) & _SAMPLED))


def context_in(headers: Iterable[tuple[str, bytes | None]]) -> TraceContext | None:
    """Return the context that a record's headers carry."""
    for name, value in headers:
        if name.lower() == TRACEPARENT:
            return None if value is None else parse(value.decode("ascii", "ignore"))
    return None


def trace_id_of(trace: str) -> str:
    """Return the trace id in a saga's trace, for log lines; empty if there is none."""
    context = parse(trace)
    return "" if context is None else context.trace_id


def new_trace(seed: str, sample_percent: int) -> TraceContext | None:
    """Begin a trace for what has no parent, or don't, by chance; the same seed always gets the same answer.

    So a request that is delivered again stays in its trace, and the share holds over all processes.
    """
    digest = hashlib.sha256(seed.encode()).digest()
    if digest[0] * 256 + digest[1] >= sample_percent * 65536 / 100:
        return None
    # There is no span before the first: whoever tells that one chooses its id.
    return TraceContext(digest[2:18].hex(), "")


def of_saga(trace: str, job_id: str, run: int) -> TraceContext | None:
    """Return the context of a run's span, which any process can refer to before it is told."""
    context = parse(trace)
    return None if context is None else context.to(_id_of("saga", job_id, run))


def command_headers(command: StepCommand) -> Headers:
    """Return the headers of a command's record: none unless the saga has a trace."""
    if not command.trace:
        return ()
    context = of_saga(command.trace, command.job_id, command.run)
    return () if context is None else context.headers()


class SpanRole(Enum):
    """What a span is to its neighbours, in OpenTelemetry's words."""

    INTERNAL = "internal"
    CLIENT = "client"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took its time, over now.

    `parent_id` is empty for the first of a trace. `failed` says why it counts as an error; empty if it doesn't.
    """

    name: str
    context: TraceContext
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    kind: SpanRole = SpanRole.INTERNAL
    failed: str = ""


class Sink(Protocol):
    """Where spans go."""

    def ended(self, span: Span) -> None:
        """Take a span; never raises, never waits."""
        ...


# --- the coordinator and intake -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tracing:
    """How intake traces requests: `sample_percent` of those that are in no trace yet begin one."""

    sink: Sink
    sample_percent: int = 100

    def accepted(self, parent: TraceContext | None, seed: str, start_ms: int, attributes: Attributes) -> str:
        """Tell that a request was accepted; return the traceparent that its submission carries on, if any.

        `seed` tells the request from all others: delivered again, it has the same spans.
        """
        context = parent or new_trace(seed, self.sample_percent)
        if context is None:
            return ""
        context = context.to(_id_of("intake", seed))
        if context.sampled:
            parent_id = "" if parent is None else parent.span_id
            start_ns = start_ms * 1_000_000
            self.sink.ended(Span("intake", context, parent_id, start_ns, time.time_ns(), attributes, SpanRole.CONSUMER))
        return str(context)


def saga_span(sink: Sink, saga: Saga) -> None:
    """Tell of a run that has ended, or that it stands still until a person decides; of others nothing."""
    parent = parse(saga.trace)
    if parent is None or not parent.sampled or not (saga.phase in ENDED or saga.phase is Phase.PARKED):
        return
    context = parent.to(_id_of("saga", saga.job_id, saga.run))
    attributes: dict[str, str | int] = {
        "scrapesaga.job_id": saga.job_id,
        "scrapesaga.run": saga.run,
        "scrapesaga.seq": saga.seq,
        "scrapesaga.pipeline": saga.plan.pipeline,
        "scrapesaga.phase": saga.phase.value,
        "url.full": redact_known(bare_url(saga.url)),
    }
    if saga.failed_step:
        attributes["scrapesaga.failed_step"] = saga.failed_step
    start_ns, end_ns = saga.started_ms * 1_000_000, saga.updated_ms * 1_000_000
    failed = (
        "" if saga.phase is Phase.COMPLETED else redact_known(saga.reason)[:_MAX_REASON] or saga.phase.value.lower()
    )
    if saga.phase is Phase.PARKED:
        moment = context.to(_id_of("parked", saga.job_id, saga.seq))
        sink.ended(Span("saga parked", moment, context.span_id, end_ns, end_ns, attributes, failed=failed))
        return
    name = f"saga {saga.plan.pipeline}"
    sink.ended(Span(name, context, parent.span_id, start_ns, end_ns, attributes, failed=failed))


# --- attempts and their calls -------------------------------------------------------------------------------------


@dataclass(slots=True)
class AttemptSpan:
    """An attempt under way; of a saga that nobody records, or in a process that tells nothing, only the context."""

    context: TraceContext
    sink: Sink | None
    name: str = ""
    parent_id: str = ""
    start_ns: int = 0
    attributes: dict[str, str | int | float] = field(default_factory=dict)

    def end(self, reply: Reply) -> None:
        """Tell of it, with its outcome."""
        if self.sink is None:
            return
        failed = (
            ""
            if isinstance(reply, Succeeded | Compensated | Confirmed)
            else redact_known(reply.reason)[:_MAX_REASON] or "failed"
        )
        attributes = {**self.attributes, "scrapesaga.outcome": "failed" if failed else "succeeded"}
        self.sink.ended(
            Span(
                self.name,
                self.context,
                self.parent_id,
                self.start_ns,
                time.time_ns(),
                attributes,
                SpanRole.CONSUMER,
                failed,
            )
        )


_current: ContextVar[AttemptSpan | None] = ContextVar("attempt", default=None)


def begin_attempt(
    sink: Sink | None, command: StepCommand, headers: Iterable[tuple[str, bytes | None]], topic: str, queued_ms: float
) -> AttemptSpan | None:
    """Begin an attempt in this task, so that its calls, records and log lines belong to it; None without a trace."""
    if not command.trace:
        return None
    parent = context_in(headers) or of_saga(command.trace, command.job_id, command.run)
    if parent is None:
        return None
    if sink is None or not parent.sampled:
        attempt = AttemptSpan(parent, None)
    else:
        attempt = AttemptSpan(
            parent.to(f"{random.getrandbits(64) or 1:016x}"),
            sink,
            f"{command.step} {command.action.lower()}",
            parent.span_id,
            time.time_ns(),
            {
                "scrapesaga.job_id": command.job_id,
                "scrapesaga.run": command.run,
                "scrapesaga.seq": command.seq,
                "scrapesaga.step": command.step,
                "scrapesaga.action": command.action.value,
                "scrapesaga.attempt": command.attempt,
                "scrapesaga.queued_ms": round(queued_ms),
                "messaging.system": "kafka",
                "messaging.destination.name": topic,
            },
        )
    _current.set(attempt)
    return attempt


def current() -> TraceContext | None:
    """Return the context of the attempt that this task works on."""
    attempt = _current.get()
    return None if attempt is None else attempt.context


def current_headers() -> Headers:
    """Return what a record carries that is sent in the course of an attempt."""
    attempt = _current.get()
    return () if attempt is None else attempt.context.headers()


class Call:
    """An HTTP call as a span, from its request to the head of its answer: `with Call(method, url) as call`."""

    __slots__ = ("_attempt", "_attributes", "_method", "_start_ns")

    def __init__(self, method: str, url: object) -> None:
        attempt = _current.get()
        self._attempt = attempt if attempt is not None and attempt.sink is not None else None
        if self._attempt is None:
            return
        self._method = method
        # A site may redirect to a path that has what it was sent in it.
        full = redact_known(bare_url(str(url)))
        self._attributes: dict[str, str | int] = {"http.request.method": method, "url.full": full}
        self._attributes["server.address"] = redact_known(_host(str(url)))

    def __enter__(self) -> Call:
        if self._attempt is not None:
            self._start_ns = time.time_ns()
        return self

    def answered(self, status: int) -> None:
        """Note the answer's status."""
        if self._attempt is not None:
            self._attributes["http.response.status_code"] = status

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        attempt = self._attempt
        if attempt is None or attempt.sink is None:
            return
        failed = ""
        if kind is not None:
            # Only the kind: texts of HTTP errors may quote what was sent.
            failed = self._attributes["error.type"] = kind.__name__
        elif int(self._attributes.get("http.response.status_code", 0)) >= 400:
            failed = self._attributes["error.type"] = str(self._attributes["http.response.status_code"])
        context = attempt.context.to(f"{random.getrandbits(64) or 1:016x}")
        attempt.sink.ended(
            Span(
                self._method,
                context,
                attempt.context.span_id,
                self._start_ns,
                time.time_ns(),
                self._attributes,
                SpanRole.CLIENT,
                failed,
            )
        )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def bare_url(url: str) -> str:
    """Return a URL without what may be secret in it: user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return ""


def _id_of(*parts: str | int) -> str:
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).hexdigest()[:16]
    # Sixteen zeros would be no span at all.
    return digest if int(digest, 16) else "0000000000000001"
