"""`scrapesaga submit`: send requests from arguments and files to the topic of URLs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processors.cli.context import Context
from processors.cli.exits import Exit

if TYPE_CHECKING:
    from processors.operations.engine import Engine
    from processors.operations.submissions import ParsedLine, RequestDefaults


def read_payload(text: str | None) -> dict[str, Any] | None:
    """Return the payload that an option says. Raises BadParameter."""
    if text is None:
        return None
    import msgspec

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
    given = read_payload(payload)
    from processors.operations import submissions

    defaults = submissions.RequestDefaults(pipeline, job_id, label, given)
    asked = _asked(urls or [], file, defaults)

    async def send(engine: Engine) -> tuple[int, int]:
        sent = bad = 0
        async for one in submissions.submit(engine, asked, pipeline):
            if one.problem:
                bad += 1
                typer.echo(f"{one.place}: {one.problem}", err=True)
                continue
            sent += 1
            if as_json:
                typer.echo(json.dumps({"job_id": one.job_id, "url": one.url}, ensure_ascii=False))
            elif one.job_id is not None:
                typer.echo(one.job_id)
        return sent, bad

    context: Context = ctx.obj
    sent, bad = context.run(send)
    typer.echo(f"{sent} sent to {context.settings.topic_prefix}.urls" + (f", {bad} refused" if bad else ""), err=True)
    if bad:
        raise typer.Exit(Exit.REFUSED)


def _asked(urls: list[str], file: str | None, defaults: RequestDefaults) -> Iterator[ParsedLine]:
    from processors.operations.errors import RequestRefused
    from processors.operations.submissions import read_line, read_lines

    for place, url in enumerate(urls, 1):
        yield read_line(f"URL {place}", url, defaults)
    if file == "-":
        yield from read_lines("stdin", sys.stdin, defaults)
    elif file is not None:
        try:
            with Path(file).open(encoding="utf-8") as lines:
                yield from read_lines(file, lines, defaults)
        except (OSError, UnicodeDecodeError) as error:
            raise RequestRefused(f"{file} can't be read: {error}") from error
