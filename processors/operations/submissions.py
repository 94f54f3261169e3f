"""Submits URLs: reads requests, checks them as intake does, and sends them to the topic of URLs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from processors.errors import BadRecord
from processors.messages.scrape_request import (
    ScrapeRequest,
    canonical_url,
    check_job_id,
    derived_job_id,
    encode_request,
    read_request,
)
from processors.operations.engine import Engine, Session
from processors.operations.errors import RequestRefused
from processors.operations.queries import read_plans
from processors.saga.plan import Plan

# Below the topic's limit of a MiB, with room for the record's own fields.
MAX_REQUEST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """Values for requests that have none of their own."""

    pipeline: str | None = None
    job_id: str | None = None
    label: str | None = None
    payload: dict[str, Any] | None = None


class ParsedLine(NamedTuple):
    """One line of input: the request, or its mistake."""

    place: str
    request: ScrapeRequest | None
    problem: str = ""


class Submission(NamedTuple):
    """What became of one line: on its way to Kafka as a job, or refused with the problem.

    `job_id` is None too where it can't be known here: which pipeline the engine takes for it.
    """

    place: str
    url: str
    job_id: str | None = None
    problem: str = ""


def read_line(place: str, text: str, defaults: RequestDefaults) -> ParsedLine:
    """Return what one URL or JSON line asks for, checked as intake will check it."""
    try:
        request = read_request(text.encode(), None)
        request = ScrapeRequest(
            url=request.url,
            pipeline=request.pipeline or defaults.pipeline,
            job_id=request.job_id or defaults.job_id,
            payload=defaults.payload if request.payload is None else request.payload,
            label=request.label or defaults.label,
        )
        canonical_url(request.url)
        if request.job_id is not None:
            check_job_id(request.job_id)
        size = len(encode_request(request))
        if size > MAX_REQUEST_BYTES:
            raise BadRecord(f"the request has {size} bytes; the limit is {MAX_REQUEST_BYTES}: make its payload smaller")
    except (BadRecord, UnicodeEncodeError) as error:
        return ParsedLine(place, None, str(error))
    return ParsedLine(place, request)


def read_lines(name: str, lines: Iterable[str], defaults: RequestDefaults) -> Iterator[ParsedLine]:
    """Yield what a file asks for: a URL or a JSON object a line, but for empty lines and those that begin with #."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield read_line(f"{name}:{number}", text, defaults)


async def submit(engine: Engine, asked: Iterable[ParsedLine], pipeline: str | None = None) -> AsyncIterator[Submission]:
    """Send requests, and yield what became of each; when this ends, Kafka has acknowledged all that were sent.

    `pipeline` is what those that name none were given. Raises RequestRefused if no such pipeline was published, DeliveryFailed.
    """
    async for one in engine.stream(lambda session: _submit(session, asked, pipeline)):
        yield one


def _submit(session: Session, asked: Iterable[ParsedLine], pipeline: str | None) -> Iterator[Submission]:
    topic = session.catalogue.urls.name
    session.reader.partitions(topic)
    plans = read_plans(session.reader, session.catalogue.plans.name)
    if pipeline is not None and plans.pipelines and pipeline not in plans.pipelines:
        raise RequestRefused(f"no pipeline {pipeline!r} was published; there are: {', '.join(plans.pipelines)}")
    only = session.settings.default_pipeline or (plans.pipelines[0] if len(plans.pipelines) == 1 else None)
    sender = session.producer()
    for one in asked:
        if one.request is None:
            yield Submission(one.place, "", problem=one.problem)
            continue
        sender.send(topic, encode_request(one.request))
        yield Submission(one.place, one.request.url, identity(one.request, only, plans.current))
    sender.finish()


def identity(
    request: ScrapeRequest, only: str | None, current: Callable[[str], Plan | None] = lambda _pipeline: None
) -> str | None:
    """Return the job that a request will be, if that can be known here: `only` is the pipeline of those that name none.

    `current` returns a pipeline's plan, which says which URLs are one job.
    """
    pipeline = request.pipeline or only
    if request.job_id is not None or pipeline is None:
        return request.job_id
    plan = current(pipeline)
    return derived_job_id(pipeline, canonical_url(request.url, msgspec.UNSET if plan is None else plan.identity))
