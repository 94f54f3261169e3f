"""`scrapesaga cancel | resume | redrive`: step in, and hear from the coordinator what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context, user_name
from processors.cli.jobs import AsJson, JobId

if TYPE_CHECKING:
    from processors.operations.queries import JobState

Reason = Annotated[str, typer.Option(help="The reason; it is kept with the job.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the coordinator's answer.", metavar="SECONDS")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return when Kafka has the request; do not wait for the answer.")
]

# As operator_requests.WAIT_S, which isn't imported for it.
WAIT_S = 30.0


def cancel(
    ctx: typer.Context,
    job: JobId,
    reason: Reason = "",
    wait: Wait = WAIT_S,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Stop a job, and undo every step that ran or may have run."""
    from processors.operations import operator_requests as requests

    context: Context = ctx.obj
    by = requests.By(user_name(), reason)
    answer = context.run(lambda engine: requests.cancel(engine, job, by, wait_s=0 if no_wait else wait))
    report(answer, f"cancel {job}", as_json)


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
    from processors.operations import operator_requests as requests

    context: Context = ctx.obj
    by = requests.By(user_name(), reason)
    ask = requests.skip if skip else requests.resume
    answer = context.run(lambda engine: ask(engine, job, by, wait_s=0 if no_wait else wait))
    report(answer, f"resume {job} ({'skip' if skip else 'retry'})", as_json)


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
    from processors.operations import operator_requests as requests

    context: Context = ctx.obj
    by = requests.By(user_name(), reason)
    answer = context.run(lambda engine: requests.redrive(engine, job, from_step, by, wait_s=0 if no_wait else wait))
    report(answer, f"redrive {job} from {from_step}", as_json)


def report(answer: JobState | None, what: str, as_json: bool) -> None:
    """Print what became of a request: the state that it led to, or that nobody waited for one."""
    if answer is None:
        typer.echo(f"the request to {what} was sent; its answer was not awaited", err=True)
        return
    if as_json:
        from processors.cli import show

        typer.echo(show.as_json(answer.fields))
    typer.echo(f"{what}: done, it is {answer.phase} in run {answer.run} with seq {answer.seq}", err=True)
