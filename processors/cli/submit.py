"""`scrapesaga submit`: requests from arguments and files onto the topic of URLs."""

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
        raise typer.BadParameter(f"no JSON object: {error}", param_hint="--payload") from error


def submit(
    ctx: typer.Context,
    urls: Annotated[list[str] | None, typer.Argument(help="URLs to scrape.", metavar="URL")] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="URLs or JSON, one a line; - is stdin.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline; needed where the engine runs several.")] = None,
    job_id: Annotated[str | None, typer.Option(help="Identity of the one job; else its pipeline and URL.")] = None,
    label: Annotated[str | None, typer.Option(help="Names the batch in lists and reports.")] = None,
    payload: Annotated[str | None, typer.Option(help="JSON object for the steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each request sent.")] = False,
) -> None:
    """Ask for URLs. The same URL again is the same job: nothing is scraped twice by mistake.

    A JSON line has the keys url, pipeline, job_id, payload and label.
    Lines that are wrong are named, and the others sent.
    """
    if not urls and file is None:
        raise typer.BadParameter("give URLs, or --file", param_hint="URL")
    if job_id is not None and (file is not None or len(urls or ()) != 1):
        raise typer.BadParameter("goes with exactly one URL", param_hint="--job-id")
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
