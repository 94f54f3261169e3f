"""`scrapesaga status | list | watch`: look at jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from processors.cli import show
from processors.cli.context import Context
from processors.cli.errors import CommandRefused
from processors.cli.replay import read_moment
from processors.errors import BadRecord
from processors.messages.wire import decode_saga_fields
from processors.operations.queries import all_states, job_partition, job_state, read_plans
from processors.pipeline.plan_store import PlanBook
from processors.saga.state import ENDED


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
    context: Context = ctx.obj
    state = state_of(context, job)
    if as_json:
        typer.echo(show.as_json(state))
        return
    names = step_names(read_plans(context.reader, context.catalogue.plans.name), state)
    show.print_job(show.console(), state, names)


def chooser(
    phases: Sequence[PhaseName] | None, label: str | None, pipeline: str | None, since: str | None
) -> Callable[[Mapping[str, Any]], bool]:
    """Return which states are wanted. Raises BadParameter for a time that is none."""
    names = {one.value.upper() for one in phases or ()}
    try:
        since_ms = 0 if since is None else read_moment(since, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error

    def wanted(state: Mapping[str, Any]) -> bool:
        return (
            (not names or state["phase"] in names)
            and (label is None or state["label"] == label)
            and (pipeline is None or state["pipeline"] == pipeline)
            and bool(state["updated_ms"] >= since_ms)
        )

    return wanted


def list_jobs(
    ctx: typer.Context,
    phase: Phases = None,
    label: Label = None,
    pipeline: Pipeline = None,
    since: Annotated[
        str | None, typer.Option(help="Only jobs that changed since this time: 2h ago, or an ISO time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of jobs to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs. The job that changed last comes first."""
    wanted = chooser(phase, label, pipeline, since)
    context: Context = ctx.obj
    states = [state for state in all_states(context.reader, context.catalogue.sagas.name).all() if wanted(state)]
    states.sort(key=lambda state: (-state["updated_ms"], state["job_id"]))
    shown: list[Mapping[str, Any]] = [*states[:limit]]
    if as_json:
        for state in shown:
            typer.echo(show.as_json(state))
        return
    plans = read_plans(context.reader, context.catalogue.plans.name)
    names = {state["plan_hash"]: step_names(plans, state) for state in shown}
    show.console().print(show.job_table(shown, names))
    typer.echo(f"{len(shown)} of {len(states)} jobs", err=True)


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
    wanted = chooser(phase, label, pipeline, None)
    context: Context = ctx.obj
    topic = context.catalogue.sagas.name
    only = None if job is None else [job_partition(context.reader, topic, job)]
    plans = read_plans(context.reader, context.catalogue.plans.name)
    out = show.console()

    def report(state: Mapping[str, Any]) -> bool:
        """Print a state that is wanted; True if it is the end of the one job that is watched."""
        if wanted(state) and as_json:
            typer.echo(show.as_json(state))
        elif wanted(state):
            at = show.under_way(state, step_names(plans, state))
            what = f"{show.phase(state):<24}  {show.escape(state['job_id'])}  {at}  {show.escape(state['reason'])}"
            out.print(f"{show.moment(state['updated_ms'])}  {what}", soft_wrap=True)
        return job is not None and state["phase"] in ENDED

    reported = -1
    following = context.reader.follow(topic, seconds, only)
    # Following begins before the present state is read: nothing falls between the two.
    next(following, None)
    if job is not None and (present := job_state(context.reader, topic, job)) is not None:
        reported = present["seq"]
        if report(present):
            return
    for record in following:
        if record is None or record.value is None or (job is not None and record.key != job.encode()):
            continue
        state = decode_saga_fields(record.value)
        if job is None or state["seq"] > reported:
            reported = state["seq"]
            if state["plan_hash"] not in plans:
                plans = read_plans(context.reader, context.catalogue.plans.name)
            if report(state):
                return


def state_of(context: Context, job: str) -> dict[str, Any]:
    """Return a job's latest state. Raises CommandRefused if there is none."""
    state = job_state(context.reader, context.catalogue.sagas.name, job)
    if state is None:
        raise CommandRefused(
            f"no job {job!r}: it was never accepted, or it was forgotten after its retention; see `scrapesaga audit {job}`"
        )
    return state


def step_names(plans: PlanBook, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a state's steps; empty if its plan isn't known."""
    try:
        return tuple(step.name for step in plans(state["plan_hash"]).steps)
    except BadRecord:
        return ()
