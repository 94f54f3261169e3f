"""`scrapesaga cancel | resume | redrive`: step in, and hear from the coordinator what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from processors.cli import show
from processors.cli.asking import WAIT_S, NoWait, Wait, ask
from processors.cli.context import Context, user_name
from processors.cli.errors import CommandRefused
from processors.cli.jobs import AsJson, JobId, state_of, step_names
from processors.operations.queries import read_plans
from processors.saga.events import Cancelled, Redriven, Resumed, ResumeMode
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Phase

Reason = Annotated[str, typer.Option(help="The reason; it is kept with the job.")]


def cancel(
    ctx: typer.Context,
    job: JobId,
    reason: Reason = "",
    wait: Wait = WAIT_S,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Stop a job, and undo every step that ran or may have run."""
    context: Context = ctx.obj
    state = state_of(context, job)
    if state["phase"] not in (Phase.RUNNING, Phase.PARKED):
        raise CommandRefused(f"job {job} is {state['phase']}: only a running or parked job can be cancelled")
    report(ask(context, Cancelled(job, user_name(), reason), 0 if no_wait else wait), f"cancel {job}", as_json)


def resume(
    ctx: typer.Context,
    job: JobId,
    skip: Annotated[bool, typer.Option("--skip", help="Skip the command that the job is parked on.")] = False,
    reason: Reason = "",
    wait: Wait = WAIT_S,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Continue a parked job: repeat the command that it is parked on, or --skip it."""
    if skip and not reason:
        raise typer.BadParameter("--skip needs a --reason: it is kept with the job", param_hint="--reason")
    context: Context = ctx.obj
    state = state_of(context, job)
    if state["phase"] != Phase.PARKED:
        raise CommandRefused(f"job {job} is {state['phase']}: only a parked job can be resumed")
    mode = ResumeMode.SKIP if skip else ResumeMode.RETRY
    answer = ask(context, Resumed(job, mode, user_name(), reason), 0 if no_wait else wait)
    report(answer, f"resume {job} ({mode.lower()})", as_json)


def redrive(
    ctx: typer.Context,
    job: JobId,
    from_step: Annotated[str, typer.Option("--from", help="The first step to run again.", metavar="STEP")],
    reason: Reason = "",
    wait: Wait = WAIT_S,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Run an ended job again from a step, with the current plan. It reuses the results of earlier steps."""
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
    answer = ask(context, Redriven(job, from_step, plan, user_name(), reason), 0 if no_wait else wait)
    report(answer, f"redrive {job} from {from_step}", as_json)


def report(answer: Mapping[str, Any] | None, what: str, as_json: bool) -> None:
    """Print what became of a request: the state that it led to, or that nobody waited for one."""
    if answer is None:
        typer.echo(f"asked to {what}, unanswered", err=True)
        return
    if as_json:
        typer.echo(show.as_json(answer))
    typer.echo(f"{what}: done, it is {answer['phase']} in run {answer['run']} with seq {answer['seq']}", err=True)


def not_reusable(plan: Plan, from_step: str, steps: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first step before `from_step` whose result can't be reused, as the protocol will judge; else empty."""
    for planned in plan.steps[: plan.index(from_step)]:
        step = steps.get(planned.name)
        if step is None or step["status"] not in ("SUCCEEDED", "REUSED") or step["undo"] != "NONE":
            return planned.name
    return ""
