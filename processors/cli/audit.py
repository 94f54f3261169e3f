"""`scrapesaga audit`: the history of one job, and the proof that the log explains every state, at rest or as it grows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from processors.cli import live
from processors.cli.context import Context
from processors.cli.exits import EPILOG, Exit

JOB = "job"
FOLLOW = "--follow"


class AuditGroup(TyperGroup):
    """`audit verify` is a command; `audit --follow` is `audit follow`, and `audit X` for any other X is `audit job X`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the one option that is a command."""
        if FOLLOW in args and args[0].startswith("-"):
            args = ["follow", *(one for one in args if one != FOLLOW)]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [JOB, *args]
        return super().resolve_command(ctx, args)


audit = typer.Typer(
    cls=AuditGroup,
    no_args_is_help=True,
    help="Print the history of a job (`audit JOB`), check every state against the events (`audit verify`), check a "
    "running engine (`audit --follow`), or account for every job of a batch (`audit conservation`).",
)
audit.command("follow", epilog=EPILOG)(live.follow)
audit.command("conservation", epilog=EPILOG)(live.conservation)


@audit.command(JOB, epilog=EPILOG)
def audit_job(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    since: Annotated[
        str,
        typer.Option(help="Start at this time: 30d ago, or an ISO time; by default at the start of its first run."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a record.")] = False,
) -> None:
    """Print every record of a job on every topic, in order of time."""
    from processors.cli import show
    from processors.operations.job_history import history
    from processors.operations.replays import read_moment

    try:
        since_ms = read_moment(since, datetime.now(UTC)) if since else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    context: Context = ctx.obj
    for one in context.run(lambda engine: history(engine, job, since_ms)):
        typer.echo(show.record_json(one) if as_json else show.record_line(one))


@audit.command("verify", epilog=EPILOG)
def audit_verify(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="The counts and divergences as one JSON object.")] = False,
) -> None:
    """Compute every state and command from the events, and compare them byte for byte. Ends with 4 if one differs."""
    from processors.operations.verification import verify

    context: Context = ctx.obj
    found = context.run(verify)
    counts = {
        "events": found.events,
        "events set aside": found.undecodable,
        "states": found.states,
        "commands": found.commands,
        "exact repeats": found.repeats,
        "removed by retention": found.expired,
        "not written yet": found.pending,
        "from before the log": found.before_log,
        "divergences": len(found.divergences),
    }
    if as_json:
        from processors.cli import show

        typer.echo(show.as_json({**counts, "first": found.divergences[:20]}))
    else:
        for name, count in counts.items():
            typer.echo(f"{count:>10}  {name}")
    if found.divergences:
        typer.echo(f"first divergence: {found.divergences[0]}", err=True)
        raise typer.Exit(Exit.DIVERGED)
    typer.echo("every state and command follows from the events", err=True)
