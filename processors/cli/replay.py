"""`scrapesaga replay`: what a topic said from a time or an offset on, to look at or to feed to another topic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context

if TYPE_CHECKING:
    from processors.operations.engine import Engine


def replay(
    ctx: typer.Context,
    begin: Annotated[
        str,
        typer.Option(
            "--from", help="Where to start: an offset, a duration ago, or an ISO time.", metavar="TIME|OFFSET"
        ),
    ],
    topic: Annotated[str, typer.Option(help="The topic, with or without its prefix.")] = "events",
    job: Annotated[str | None, typer.Option(help="Only records of this job.")] = None,
    label: Annotated[str | None, typer.Option(help="Only records of jobs with this label.")] = None,
    to_topic: Annotated[
        str | None, typer.Option(help="Produce the records to this topic, with key, value and headers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per record.")] = False,
) -> None:
    """Read a topic from a point to its current end. Print the records, or produce them to another topic."""
    from processors.cli import show
    from processors.operations import replays

    try:
        start = replays.read_start(begin, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from") from error
    if job is not None and label is not None:
        raise typer.BadParameter("can't be used with --job: a job has one label", param_hint="--label")
    if to_topic is not None and as_json:
        raise typer.BadParameter("can't be used with --to-topic", param_hint="--json")
    wanted = replays.Replay(topic, start, job, label, to_topic)

    async def read(engine: Engine) -> tuple[int, str]:
        count, name = 0, await engine.run(lambda session: replays.full_name(session, topic))
        async for one in replays.replay(engine, wanted):
            count += 1
            if to_topic is None:
                typer.echo(show.record_json(one) if as_json else show.record_line(one))
        return count, name

    context: Context = ctx.obj
    count, name = context.run(read)
    typer.echo(f"{count} records of {name}" + (f" produced to {to_topic}" if to_topic else ""), err=True)
