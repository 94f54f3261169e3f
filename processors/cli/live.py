"""`scrapesaga audit --follow` and `scrapesaga audit conservation`: the promises of a running engine, and where its jobs are."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from processors.auditor.follow import Beginning, Follower
from processors.auditor.violations import label_of, position_fields
from processors.cli import show
from processors.cli.context import Context
from processors.cli.errors import Exit
from processors.cli.replay import read_start
from processors.durations import parse_duration
from processors.operations.conservation import count
from processors.redaction import one_line
from processors.saga.invariants import Violation

_STATUS_EVERY_S = 5.0


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
    context: Context = ctx.obj
    try:
        start = read_start(since, datetime.now(UTC)).since_ms if since else 0
        give_up = time.monotonic() + parse_duration(seconds).total_seconds() if seconds else float("inf")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if since and not start:
        raise typer.BadParameter("give a duration ago or a time; an offset means another time in each partition")
    settings = context.settings
    begin = Beginning(context.catalogue, start, settings.retention_history, settings.retention_commands)

    def report(violation: Violation) -> None:
        typer.echo(show.as_json(_fields(violation)) if as_json else one_line(str(violation)))

    follower = Follower(context.reader, begin, report)
    if start:
        typer.echo(
            f"{follower.taken_over} sagas in flight: the audit starts from their last state before --since", err=True
        )
    try:
        with suppress(KeyboardInterrupt):
            if to_end:
                follower.to_end(lambda: time.monotonic() > give_up)
            else:
                _until(follower, give_up)
        if as_json:
            typer.echo(show.as_json(_sums(follower)))
        else:
            typer.echo(_status(follower), err=True)
    finally:
        follower.close()
    raise typer.Exit(Exit.DIVERGED if follower.auditor.violations else Exit.OK)


def _until(follower: Follower, give_up: float) -> None:
    reported = time.monotonic()
    while time.monotonic() < give_up:
        follower.step()
        if time.monotonic() - reported > _STATUS_EVERY_S:
            reported = time.monotonic()
            typer.echo(_status(follower), err=True)


def _status(follower: Follower) -> str:
    auditor = follower.auditor
    states = ", ".join(f"{number} {name}" for name, number in auditor.conservation().items() if number)
    return (
        f"{auditor.events} events checked, {follower.lag} to read, {auditor.unjudged} records not checked, "
        f"{sum(auditor.violations.values())} violations: {states}"
    )


def _sums(follower: Follower) -> dict[str, object]:
    auditor = follower.auditor
    return {
        "events": auditor.events,
        "lag": follower.lag,
        "unjudged": auditor.unjudged,
        "stuck": auditor.stuck,
        "states": auditor.conservation(),
        "broken": {label_of(rule): number for rule, number in auditor.violations.items()},
    }


def _fields(violation: Violation) -> dict[str, object]:
    return {
        "invariant": violation.rule,
        "job_id": violation.job_id,
        **position_fields(violation),
        "detail": violation.detail,
    }


def conservation(
    ctx: typer.Context,
    label: Annotated[str | None, typer.Option(help="Only jobs with this label; by default all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per batch.")] = False,
) -> None:
    """Account for every accepted job of each batch. Ends with 4 if a job is nowhere."""
    context: Context = ctx.obj
    now_ms = int(time.time() * 1000)
    batches = count(
        context.reader, context.catalogue, now_ms - context.settings.retention_tombstones // timedelta(milliseconds=1)
    )
    if label is not None:
        batches = {label: batches[label]} if label in batches else {}
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
