"""`scrapesaga submit`: send requests from arguments and files to the topic of URLs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from processors.cli.context import Context
from processors.cli.errors import CommandRefused, Exit
from processors.errors import BadRecord
from processors.kafka.sync_producer import SyncProducer
from processors.messages.scrape_request import (
    ScrapeRequest,
    canonical_url,
    check_job_id,
    derived_job_id,
    encode_request,
    read_request,
)
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


def read_payload(text: str | None) -> dict[str, Any] | None:
    """Return the payload that an option says. Raises BadParameter."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"not a JSON object: {error}", param_hint="--payload") from error


def submit(
    ctx: typer.Context,
    urls: Annotated[list[str] | None, typer.Argument(help="URLs to scrape.", metavar="URL")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="File with one URL or JSON object per line; - is stdin.")
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="The pipeline; needed if the engine has several.")] = None,
    job_id: Annotated[
        str | None, typer.Option(help="The job_id, for exactly one URL; by default derived from pipeline and URL.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for this batch in lists and reports.")] = None,
    payload: Annotated[str | None, typer.Option(help="A JSON object that the steps can read.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per request.")] = False,
) -> None:
    """Submit URLs. The same URL is the same job, so submitting it twice does not scrape it twice.

    A JSON line has the keys url, pipeline, job_id, payload and label.
    Lines that are wrong are named, and the others sent.
    """
    if not urls and file is None:
        raise typer.BadParameter("give URLs, or --file", param_hint="URL")
    if job_id is not None and (file is not None or len(urls or ()) != 1):
        raise typer.BadParameter("needs exactly one URL", param_hint="--job-id")
    defaults = RequestDefaults(pipeline, job_id, label, read_payload(payload))
    context: Context = ctx.obj
    topic = context.catalogue.urls.name
    context.reader.partitions(topic)
    plans = read_plans(context.reader, context.catalogue.plans.name)
    only = context.settings.default_pipeline or (plans.pipelines[0] if len(plans.pipelines) == 1 else None)
    if pipeline is not None and plans.pipelines and pipeline not in plans.pipelines:
        raise CommandRefused(f"no pipeline {pipeline!r} was published; there are: {', '.join(plans.pipelines)}")
    sender, bad = SyncProducer(context.client), 0
    for asked in _asked(urls or [], file, defaults):
        if asked.request is None:
            bad += 1
            typer.echo(f"{asked.place}: {asked.problem}", err=True)
            continue
        sender.send(topic, encode_request(asked.request))
        job = identity(asked.request, only, plans.current)
        if as_json:
            typer.echo(msgspec.json.encode({"job_id": job, "url": asked.request.url}))
        elif job is not None:
            typer.echo(job)
    sent = sender.finish()
    typer.echo(f"{sent} sent to {topic}" + (f", {bad} refused" if bad else ""), err=True)
    if bad:
        raise typer.Exit(Exit.REFUSED)


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


def _asked(urls: list[str], file: str | None, defaults: RequestDefaults) -> Iterator[ParsedLine]:
    for place, url in enumerate(urls, 1):
        yield read_line(f"URL {place}", url, defaults)
    if file == "-":
        yield from read_lines("stdin", sys.stdin, defaults)
    elif file is not None:
        try:
            with Path(file).open(encoding="utf-8") as lines:
                yield from read_lines(file, lines, defaults)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandRefused(f"{file} can't be read: {error}") from error
