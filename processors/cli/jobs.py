"""`scrapesaga status | list | watch | cancel | resume | redrive`: look at jobs, and step in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape

from processors.cli import show
from processors.cli.context import Context, user_name
from processors.cli.errors import CommandRefused
from processors.cli.sending import Sender
from processors.errors import BadRecord
from processors.plans import PlanBook
from processors.reading import all_states, job_partition, job_state, read_plans
from processors.saga.events import Cancelled, Redriven, Resumed, ResumeMode
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Phase
from processors.wire import decode_saga_fields, encode_event


class PhaseName(StrEnum):
    """A phase as one types it."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    PARKED = "parked"
    COMPLETED = "completed"
    COMPENSATED = "compensated"


Job = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
Label = Annotated[str | None, typer.Option(help="Only jobs with this label.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the job.")]


def status(ctx: typer.Context, job: Job, as_json: AsJson = False) -> None:
    """Show where a job is: its phase, each step, and why."""
    context: Context = ctx.obj
    state = state_of(context, job)
    if as_json:
        typer.echo(show.as_json(state))
        return
    names = step_names(read_plans(context.reader, context.catalogue.plans.name), state)
    show.print_job(show.console(), state, names)


def list_jobs(
    ctx: typer.Context,
    phase: Annotated[list[PhaseName] | None, typer.Option(help="Only jobs in this phase; may be repeated.")] = None,
    label: Label = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest changed first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, the latest changed first."""
    context: Context = ctx.obj
    wanted = {one.value.upper() for one in phase or ()}
    states = [
        state
        for state in all_states(context.reader, context.catalogue.sagas.name).all()
        if (not wanted or state["phase"] in wanted) and (label is None or state["label"] == label)
    ]
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
    job: Annotated[str | None, typer.Argument(help="Only this job, until it ends.", metavar="[JOB]")] = None,
    label: Label = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; else at Ctrl-C.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print each change of state as it happens."""
    context: Context = ctx.obj
    topic = context.catalogue.sagas.name
    only = None if job is None else [job_partition(context.reader, topic, job)]
    plans = read_plans(context.reader, context.catalogue.plans.name)
    out = show.console()

    def tell(state: Mapping[str, Any]) -> bool:
        """Print a state; True if it is the end of the one job that is watched."""
        if as_json:
            typer.echo(show.as_json(state))
        else:
            at = show.under_way(state, step_names(plans, state))
            what = f"{show.phase(state):<24}  {escape(state['job_id'])}  {at}  {escape(state['reason'])}"
            out.print(f"{show.moment(state['updated_ms'])}  {what}", soft_wrap=True)
        return job is not None and state["phase"] in ENDED

    told = -1
    following = context.reader.follow(topic, seconds, only)
    # Following begins before the present state is read: nothing falls between the two.
    next(following, None)
    if job is not None and (present := job_state(context.reader, topic, job)) is not None:
        told = present["seq"]
        if tell(present):
            return
    for record in following:
        if record is None or record.value is None or (job is not None and record.key != job.encode()):
            continue
        state = decode_saga_fields(record.value)
        if (label is None or state["label"] == label) and not (job is not None and state["seq"] <= told):
            told = state["seq"]
            if state["plan_hash"] not in plans:
                plans = read_plans(context.reader, context.catalogue.plans.name)
            if tell(state):
                return


def cancel(ctx: typer.Context, job: Job, reason: Reason = "") -> None:
    """Stop a job, and undo what it did or may have done."""
    context: Context = ctx.obj
    state = state_of(context, job)
    if state["phase"] not in (Phase.RUNNING, Phase.PARKED):
        raise CommandRefused(f"job {job} is {state['phase']}: only a running or parked job can be cancelled")
    ask(context, Cancelled(job, user_name(), reason))
    typer.echo(f"asked to cancel {job}; see `scrapesaga watch {job}`", err=True)


def resume(
    ctx: typer.Context,
    job: Job,
    skip: Annotated[bool, typer.Option("--skip", help="Leave undone what can't be undone, and go on.")] = False,
    reason: Reason = "",
) -> None:
    """Let a parked job go on: try its command again, or --skip it."""
    if skip and not reason:
        raise typer.BadParameter("--skip needs a --reason: it is kept with the job", param_hint="--reason")
    context: Context = ctx.obj
    state = state_of(context, job)
    if state["phase"] != Phase.PARKED:
        raise CommandRefused(f"job {job} is {state['phase']}: only a parked job can be resumed")
    mode = ResumeMode.SKIP if skip else ResumeMode.RETRY
    ask(context, Resumed(job, mode, user_name(), reason))
    typer.echo(f"asked to resume {job} ({mode.lower()}); see `scrapesaga watch {job}`", err=True)


def redrive(
    ctx: typer.Context,
    job: Job,
    from_step: Annotated[str, typer.Option("--from", help="First step to run again.", metavar="STEP")],
    reason: Reason = "",
) -> None:
    """Run a finished job again from a step on, by the current plan, with the results of the steps before it."""
    context: Context = ctx.obj
    state = state_of(context, job)
    if state["phase"] not in ENDED:
        raise CommandRefused(f"job {job} is {state['phase']}: only a completed or compensated job can be redriven")
    plans = read_plans(context.reader, context.catalogue.plans.name)
    plan = plans.current(state["pipeline"])
    if plan is None:
        raise CommandRefused(f"pipeline {state['pipeline']} has no current plan: is an intake with it running?")
    if plan.index(from_step) < 0:
        known = ", ".join(step.name for step in plan.steps)
        raise CommandRefused(f"pipeline {plan.pipeline} has no step {from_step!r}; there are: {known}")
    if missing := not_reusable(plan, from_step, dict(zip(step_names(plans, state), state["steps"], strict=False))):
        raise CommandRefused(
            f"step {missing!r} of job {job} has no result to reuse; redrive from {missing!r} or earlier"
        )
    ask(context, Redriven(job, from_step, plan, user_name(), reason))
    typer.echo(f"asked to redrive {job} from {from_step}; see `scrapesaga watch {job}`", err=True)


def not_reusable(plan: Plan, from_step: str, steps: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first step before `from_step` whose result can't be reused, as the protocol will judge; else empty."""
    for planned in plan.steps[: plan.index(from_step)]:
        step = steps.get(planned.name)
        if step is None or step["status"] not in ("SUCCEEDED", "REUSED") or step["undo"] != "NONE":
            return planned.name
    return ""


def state_of(context: Context, job: str) -> dict[str, Any]:
    """Return a job's latest state. Raises CommandRefused if there is none."""
    state = job_state(context.reader, context.catalogue.sagas.name, job)
    if state is None:
        raise CommandRefused(
            f"no job {job!r}: never accepted, or forgotten after its retention; see `scrapesaga audit {job}`"
        )
    return state


def ask(context: Context, event: Cancelled | Resumed | Redriven) -> None:
    """Put an operator's request where the coordinator reads it; returns once Kafka has it."""
    topic, key = context.catalogue.events.name, event.job_id.encode()
    sender = Sender(context.client)
    partition = job_partition(context.reader, topic, event.job_id)
    sender.send(topic, encode_event(event, request_id=uuid.uuid4().hex), key=key, partition=partition)
    sender.finish()


def step_names(plans: PlanBook, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a state's steps; empty if its plan isn't known."""
    try:
        return tuple(step.name for step in plans(state["plan_hash"]).steps)
    except BadRecord:
        return ()
