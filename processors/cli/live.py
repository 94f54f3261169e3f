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
    since: Annotated[
        str, typer.Option(help="Start at this time: 2h ago, or an ISO time; by default at the first record.")
    ] = "",
    seconds: Annotated[str, typer.Option("--for", help="Stop after this duration.", metavar="DURATION")] = "",
    to_end: Annotated[bool, typer.Option("--to-end", help="Stop when all records that exist now are checked.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object per violation and one at the end.")
    ] = False,
) -> None:
    """Check the topics while the engine runs, until Ctrl-C. Ends with 4 if it found a violation."""
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
                    taken_over = f"{one.taken_over} sagas in flight"
                    typer.echo(f"{taken_over}: the audit starts from their last state before --since", err=True)
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
        f"{one.events} events checked, {one.lag} to read, {one.unjudged} records not checked, "
        f"{sum(one.violations.values())} violations: {states}"
    )


def conservation(
    ctx: typer.Context,
    label: Annotated[str | None, typer.Option(help="Only jobs with this label; by default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per batch.")] = False,
) -> None:
    """Account for every accepted job of each batch. Ends with 4 if a job is nowhere."""
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
