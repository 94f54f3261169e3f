"""`scrapesaga audit`: the history of one job, and the proof that the log explains every state, at rest or as it grows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from processors.cli import live, show
from processors.cli.context import Context
from processors.cli.errors import EPILOG, CommandRefused, Exit
from processors.cli.records import Decoded, decode
from processors.cli.verify import Audit, Kept, Topics, VerifyReport
from processors.operations.queries import job_partition, read_plans

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
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a record.")] = False,
) -> None:
    """Print every record of a job on every topic, in order of time."""
    context: Context = ctx.obj
    found = sorted(
        history(context, job), key=lambda one: (one.record.timestamp_ms, one.record.topic, one.record.offset)
    )
    if not found:
        raise CommandRefused(f"no record of job {job!r} on any topic: never submitted, or older than the topics keep")
    for one in found:
        typer.echo(one.json() if as_json else one.line())


def history(context: Context, job: str) -> Iterator[Decoded]:
    """Yield every record of a job, topic by topic."""
    catalogue, reader, key = context.catalogue, context.reader, job.encode()
    keyed = [catalogue.events, catalogue.sagas]
    for step in catalogue.steps:
        keyed += [catalogue.commands(step), catalogue.results(step)]
    origins: set[tuple[int, int]] = set()
    for topic in keyed:
        if topic.name not in reader.topics():
            continue
        for record in reader.records(topic.name, [job_partition(reader, topic.name, job)]):
            if record.key == key:
                one = decode(record)
                if one.message == "submitted":
                    origins.add((one.fields["origin_partition"], one.fields["origin_offset"]))
                yield one
    for topic in (catalogue.urls, catalogue.records, catalogue.dead_letters):
        for record in reader.records(topic.name):
            one = decode(record)
            asked = topic is catalogue.urls and (record.partition, record.offset) in origins
            if asked or record.key == key or one.job_id == job:
                yield one


@audit.command("verify", epilog=EPILOG)
def audit_verify(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="The counts and divergences as one JSON object.")] = False,
) -> None:
    """Compute every state and command from the events, and compare them byte for byte. Ends with 4 if one differs."""
    report = verify(ctx.obj)
    counts = {
        "events": report.events,
        "events set aside": report.undecodable,
        "states": report.states,
        "commands": report.commands,
        "exact repeats": report.repeats,
        "removed by retention": report.expired,
        "not written yet": report.pending,
        "from before the log": report.before_log,
        "divergences": len(report.divergences),
    }
    if as_json:
        typer.echo(show.as_json({**counts, "first": report.divergences[:20]}))
    else:
        for name, count in counts.items():
            typer.echo(f"{count:>10}  {name}")
    if report.divergences:
        typer.echo(f"first divergence: {report.divergences[0]}", err=True)
        raise typer.Exit(Exit.DIVERGED)
    typer.echo("every state and command follows from the events", err=True)


def verify(context: Context) -> VerifyReport:
    """Read the topics, and return what the audit found.

    One partition after the other: its states and commands are held in memory, some 400 bytes each, until its events were
    folded. `audit --follow --to-end` judges the same and holds what is in flight.
    """
    catalogue, reader, settings = context.catalogue, context.reader, context.settings
    report = VerifyReport()
    events, sagas = catalogue.events.name, catalogue.sagas.name
    if reader.partitions(events) != reader.partitions(sagas):
        raise CommandRefused(f"{events} and {sagas} differ in partitions; see `scrapesaga topics verify`")
    kept = Kept.since(int(time.time() * 1000), settings.retention_history, settings.retention_commands)
    for partition, begins in reader.lowest(events).items():
        topics = Topics(report)
        for record in reader.records(sagas, [partition]):
            topics.add_state(record, begins)
        for step in catalogue.steps:
            for record in reader.records(catalogue.commands(step).name, [partition]):
                topics.add_command(record)
        # Read between the states and the events: whatever a state or an event names was published before it.
        plans = read_plans(reader, catalogue.plans.name)
        Audit(topics, report, plans, kept).run(reader.records(events, [partition]))
    return report
