"""`scrapesaga topics ... | pipeline ...`: checks before anything runs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context
from processors.cli.exits import Exit

if TYPE_CHECKING:
    from processors.saga.plan import Plan
    from topics.catalogue import Catalogue
    from topics.changes import Change

topics = typer.Typer(no_args_is_help=True, help="Plan, create and check the topics of the engine.")
pipeline = typer.Typer(no_args_is_help=True, help="Check pipelines, and show their plans and steps.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Files = Annotated[list[Path], typer.Argument(help="Pipeline files, or folders with pipeline files.", metavar="FILE")]


@topics.command("plan")
def topics_plan(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what `apply` would change. Ends with 1 if something can't be changed in place."""
    from processors.process.provisioning import plan_topics
    from topics.changes import Refused, explain, mend

    context: Context = ctx.obj
    context.check()
    found = plan_topics(context.settings, wanted(context))
    for change in found:
        if as_json:
            typer.echo(_difference(context, change))
            continue
        typer.echo(f"{explain(change)}.")
        if isinstance(change, Refused):
            typer.echo(f"    can't be changed in place. {mend(change, context.settings.bootstrap_servers)}")
    typer.echo(f"{len(found)} differences" if found else "the topics are as declared", err=True)
    if any(isinstance(change, Refused) for change in found):
        raise typer.Exit(Exit.REFUSED)


@topics.command("apply")
def topics_apply(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Create the missing topics and correct the others. Deletes nothing; safe to repeat."""
    from processors.process.provisioning import apply_topics
    from topics.changes import explain

    context: Context = ctx.obj
    context.check()
    changed = apply_topics(context.settings, wanted(context))
    for change in changed:
        typer.echo(_difference(context, change) if as_json else f"corrected: {explain(change)}")
    typer.echo(f"{len(changed)} changed; the topics are as declared", err=True)


@topics.command("verify")
def topics_verify(
    ctx: typer.Context,
    wait: Annotated[
        str, typer.Option(help="How long to wait until the topics match, such as 5m.", metavar="DURATION")
    ] = "0s",
    as_json: AsJson = False,
) -> None:
    """Check the topics against the catalogue. Prints each difference with its fix, and ends with 3 if there is one."""
    from processors.durations import parse_duration
    from processors.process.provisioning import plan_topics, verify_topics, wait_for_topics

    context: Context = ctx.obj
    try:
        patience = parse_duration(wait)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--wait") from error
    if not patience:
        context.check()
    if patience:
        wait_for_topics(
            context.settings, wanted(context), patience, lambda why: typer.echo(f"waiting: {why}", err=True)
        )
    elif as_json and (found := plan_topics(context.settings, wanted(context))):
        for change in found:
            typer.echo(_difference(context, change))
        raise typer.Exit(Exit.UNUSABLE)
    else:
        verify_topics(context.settings, wanted(context))
    typer.echo("the topics are as declared", err=True)


def _difference(context: Context, change: Change) -> str:
    from processors.cli import show
    from topics.changes import explain, mend

    how = mend(change, context.settings.bootstrap_servers)
    return show.as_json({"topic": change.topic.name, "difference": explain(change), "mend": how})


class Format(StrEnum):
    """The format of `topics export`."""

    STRIMZI = "strimzi"
    JSON = "json"
    TABLE = "table"


@topics.command("export")
def topics_export(
    ctx: typer.Context,
    style: Annotated[
        Format, typer.Option("--format", help="strimzi: KafkaTopic manifests; json; table: Markdown.")
    ] = Format.JSON,
    cluster: Annotated[str, typer.Option(help="Name of the Strimzi cluster; needed for --format strimzi.")] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of the manifests.")] = "",
    api_version: Annotated[
        str, typer.Option(help="API version of the manifests; Strimzi before 0.49 needs kafka.strimzi.io/v1beta2.")
    ] = "kafka.strimzi.io/v1",
) -> None:
    """Print the topics that the settings and pipelines need, for other tools to create. Does not connect to Kafka."""
    import yaml

    from topics import export

    catalogue = wanted(ctx.obj)
    match style:
        case Format.STRIMZI:
            if not cluster:
                raise typer.BadParameter("give the name of the Strimzi cluster", param_hint="--cluster")
            manifests = export.strimzi(catalogue, cluster=cluster, namespace=namespace, api_version=api_version)
            typer.echo(yaml.safe_dump_all(manifests, sort_keys=False, explicit_start=True), nl=False)
        case Format.JSON:
            typer.echo(json.dumps(export.describe(catalogue), indent=2))
        case Format.TABLE:
            typer.echo(export.table(catalogue), nl=False)


def wanted(context: Context) -> Catalogue:
    """Return the topics that the settings' pipelines need; those of the built-in steps where none is named."""
    from processors.pipeline.pipeline import read_pipelines
    from processors.process.provisioning import steps_served
    from topics.catalogue import DEFAULT_STEPS

    places = context.settings.pipelines
    if not places:
        return context.settings.catalogue(DEFAULT_STEPS)
    return context.settings.catalogue(
        steps_served(context.settings, read_pipelines(places, context.settings.schemas_dir).values())
    )


@pipeline.command("lint")
def lint(ctx: typer.Context, files: Files, as_json: AsJson = False) -> None:
    """Check pipelines. A mistake is reported with its file, step and key."""
    from processors.cli import show
    from processors.errors import PipelineError
    from processors.pipeline.pipeline import read_pipeline

    context: Context = ctx.obj
    wrong = 0
    for file in _files(files):
        try:
            plan = read_pipeline(file, context.settings.schemas_dir)
        except PipelineError as error:
            wrong += 1
            if as_json:
                typer.echo(show.as_json({"file": str(file), "ok": False, "problem": str(error)}))
            else:
                typer.echo(str(error), err=True)
        else:
            if as_json:
                typer.echo(show.as_json({"file": str(file), "ok": True, "pipeline": plan.pipeline, "plan": plan.hash}))
            else:
                typer.echo(f"{file}: ok, {plan.pipeline}, plan {plan.hash}")
    if wrong:
        raise typer.Exit(Exit.REFUSED)


@pipeline.command("plan")
def resolved(ctx: typer.Context, files: Files, as_json: AsJson = False) -> None:
    """Show the plan of a pipeline: all parameters with their defaults, and the hash."""
    import msgspec

    from processors.pipeline.pipeline import read_pipelines

    context: Context = ctx.obj
    for plan in read_pipelines(files, context.settings.schemas_dir).values():
        if as_json:
            typer.echo(msgspec.json.encode(plan, order="deterministic"))
        else:
            _print_plan(plan)


@pipeline.command("steps")
def steps(as_json: AsJson = False) -> None:
    """List the installed steps by their `use:` names."""
    from rich.table import Table

    from processors.cli import show
    from processors.errors import PipelineError
    from processors.pipeline.pipeline import find_step, installed_steps
    from processors.step import NOTHING_TO_UNDO

    table = Table("use", "undo", "confirms", "from", "what it does", box=None, pad_edge=False)
    broken = 0
    for name, target in sorted(installed_steps().items()):
        try:
            step = find_step(name)
        except PipelineError as error:
            broken += 1
            typer.echo(str(error), err=True)
            continue
        nothing = "nothing to undo" if step.compensate is NOTHING_TO_UNDO else "none declared"
        undo = nothing if step.compensate in (None, NOTHING_TO_UNDO) else "yes"
        confirms = "yes" if step.confirm is not None else "no"
        doc = (step.__doc__ or "").strip().split("\n", 1)[0]
        if as_json:
            typer.echo(show.as_json({"use": name, "undo": undo, "confirms": confirms, "from": target, "doc": doc}))
        table.add_row(name, undo, confirms, target, doc)
    if not as_json:
        show.console().print(table)
    if broken:
        raise typer.Exit(Exit.REFUSED)


def _files(places: list[Path]) -> list[Path]:
    from processors.errors import PipelineError

    found: list[Path] = []
    for place in places:
        inside = sorted((*place.glob("*.yaml"), *place.glob("*.yml"))) if place.is_dir() else [place]
        if not inside:
            raise PipelineError(f"{place}: no *.yaml in this folder")
        found += inside
    return found


def _print_plan(plan: Plan) -> None:
    from rich.table import Table

    from processors.cli import show

    typer.echo(f"{plan.pipeline}  plan {plan.hash}  resubmit {plan.resubmit}  deadline {_s(plan.deadline_ms)}")
    table = Table(
        "step", "use", "timeout", "attempts", "backoff", "undo", "undo attempts", "confirms", "with", box=None
    )
    for step in plan.steps:
        table.add_row(
            step.name,
            step.use,
            _s(step.timeout_ms),
            str(step.retry.attempts),
            f"{_s(step.retry.base_ms)} to {_s(step.retry.cap_ms)}",
            "yes" if step.undoable else "no",
            str(step.undo_retry.attempts) if step.undoable else "",
            "yes" if step.confirms else "no",
            step.params,
        )
    show.console().print(table)


def _s(ms: int) -> str:
    return f"{ms / 1000:g}s"
