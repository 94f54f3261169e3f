"""`scrapesaga status | list | watch`: look at jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context

if TYPE_CHECKING:
    from processors.operations.engine import Engine
    from processors.operations.queries import JobFilter, JobState


class PhaseName(StrEnum):
    """A phase as one types it."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    PARKED = "parked"
    COMPLETED = "completed"
    COMPENSATED = "compensated"


JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Label = Annotated[str | None, typer.Option(help="Only jobs with this label.")]
Phases = Annotated[list[PhaseName] | None, typer.Option("--phase", help="Only jobs in this phase; may be repeated.")]
Pipeline = Annotated[str | None, typer.Option(help="Only jobs of this pipeline.")]


def status(ctx: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show the state of a job: its phase, each step, and the reason."""
    from processors.cli import show
    from processors.operations import queries

    context: Context = ctx.obj
    state = context.run(lambda engine: queries.status(engine, job))
    if as_json:
        typer.echo(show.as_json(state.fields))
    else:
        show.print_job(show.console(), state.fields, state.steps)


def job_filter(
    phases: Sequence[PhaseName] | None, label: str | None, pipeline: str | None, since: str | None
) -> JobFilter:
    """Return which jobs are wanted. Raises BadParameter for a time that is none."""
    from processors.operations.queries import JobFilter
    from processors.operations.replays import read_moment
    from processors.saga.state import Phase

    try:
        since_ms = 0 if since is None else read_moment(since, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    return JobFilter(frozenset(Phase(one.value.upper()) for one in phases or ()), label, pipeline, since_ms)


def list_jobs(
    ctx: typer.Context,
    phase: Phases = None,
    label: Label = None,
    pipeline: Pipeline = None,
    since: Annotated[
        str | None, typer.Option(help="Only jobs that changed since this time: 2h ago, or an ISO time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of jobs to show.")] = 50,
    after: Annotated[
        str | None, typer.Option(help="Continue after a page: the cursor at its end.", metavar="CURSOR")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs. The job that changed last comes first."""
    wanted = job_filter(phase, label, pipeline, since)
    from processors.cli import show
    from processors.operations import queries

    context: Context = ctx.obj
    cursor = None if after is None else queries.Cursor.read(after)
    page = context.run(lambda engine: queries.list_jobs(engine, wanted, limit=limit, after=cursor))
    if as_json:
        for state in page.jobs:
            typer.echo(show.as_json(state.fields))
    else:
        names = {str(state.fields["plan_hash"]): state.steps for state in page.jobs}
        show.console().print(show.job_table([state.fields for state in page.jobs], names))
    more = "" if page.next is None else f"; for more, use --limit or --after {page.next}"
    typer.echo(f"{len(page.jobs)} jobs{more}", err=True)


def watch(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(help="Watch only this job, until it ends.", metavar="JOB")] = None,
    phase: Phases = None,
    label: Label = None,
    pipeline: Pipeline = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after this many seconds; without it, at Ctrl-C.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print each change of state as it happens, of all jobs or of one job until it ends."""
    wanted = job_filter(phase, label, pipeline, None)
    from processors.cli import show
    from processors.operations import queries

    out = show.console()

    def report(state: JobState) -> None:
        fields = state.fields
        if as_json:
            typer.echo(show.as_json(fields))
            return
        at = queries.under_way(fields, state.steps)
        what = f"{show.phase(fields):<24}  {show.escape(state.job_id)}  {at}  {show.escape(fields['reason'])}"
        out.print(f"{show.moment(state.updated_ms)}  {what}", soft_wrap=True)

    async def follow(engine: Engine) -> None:
        async for state in queries.watch(engine, wanted, job_id=job, seconds=seconds):
            report(state)

    context: Context = ctx.obj
    context.run(follow)
