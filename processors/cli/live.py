"""`scrapesaga audit --follow` and `scrapesaga audit conservation`: the promises of a running engine, and where its jobs are."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context
from processors.cli.exits import Exit
from processors.redaction import one_line

if TYPE_CHECKING:
    from processors.operations.engine import Engine
    from processors.operations.verification import AuditStatus


def follow(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="Duration ago, or ISO time; all that is there by default.")] = "",
    seconds: Annotated[str, typer.Option("--for", help="End after this duration.", metavar="DURATION")] = "",
    to_end: Annotated[bool, typer.Option("--to-end", help="End once all that lies there by now was judged.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, one object a broken promise and one at the end.")
    ] = False,
) -> None:
    """Judge the topics while the engine runs: 4 if a promise was broken when it ends, by Ctrl-C or by itself."""
    import asyncio
    import signal
    import threading

    from processors.cli import show
    from processors.durations import parse_duration
    from processors.operations.replays import read_start
    from processors.operations.verification import AuditStatus, audit

    try:
        since_ms = read_start(since, datetime.now(UTC)).since_ms if since else 0
        limit_s = parse_duration(seconds).total_seconds() if seconds else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if since and not since_ms:
        raise typer.BadParameter("give a duration ago or a time; an offset means another time in each partition")

    async def judge(engine: Engine) -> AuditStatus | None:
        ended, last = threading.Event(), None
        # Ctrl-C is how it usually ends: with a judgement.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
        async for one in audit(engine, since_ms=since_ms, to_end=to_end, seconds=limit_s, ended=ended):
            if isinstance(one, AuditStatus):
                if last is None and since_ms:
                    typer.echo(f"{one.taken_over} sagas in flight were taken over at their last state", err=True)
                elif last is not None and not as_json:
                    typer.echo(_status(one), err=True)
                last = one
            else:
                typer.echo(show.violation_json(one) if as_json else one_line(str(one)))
        return last

    context: Context = ctx.obj
    last = context.run(judge)
    if last is None:
        return
    if as_json:
        typer.echo(show.audit_json(last))
    raise typer.Exit(Exit.DIVERGED if last.violations else Exit.OK)


def _status(one: AuditStatus) -> str:
    states = ", ".join(f"{number} {name}" for name, number in one.states.items() if number)
    return (
        f"{one.events} events judged, {one.lag} to read, {one.unjudged} records beyond judgement, "
        f"{sum(one.violations.values())} promises broken: {states}"
    )


def conservation(
    ctx: typer.Context,
    label: Annotated[str | None, typer.Option(help="Only jobs of this batch; all batches by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a batch.")] = False,
) -> None:
    """Say for each batch what became of every job that was accepted: 4 if one is nowhere."""
    from processors.cli import show
    from processors.operations.conservation import conservation as count

    context: Context = ctx.obj
    batches = context.run(lambda engine: count(engine, label))
    lost = False
    for name, sums in sorted(batches.items()):
        lost = lost or bool(sums.lost)
        if as_json:
            typer.echo(show.as_json({"label": name, **sums.numbers(), "lost": sorted(sums.lost)[:20]}))
        else:
            typer.echo(one_line(f"{name or '(no label)'}: {sums.line()}"))
            for job in sorted(sums.lost)[:20]:
                typer.echo(one_line(f"  nowhere: {job}"))
    if not batches:
        typer.echo("no job was accepted" + (f" with label {label!r}" if label else ""), err=True)
    raise typer.Exit(Exit.DIVERGED if lost else Exit.OK)
