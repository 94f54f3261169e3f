"""`scrapesaga spend`: what was spent, and an end to entries that no saga needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context

if TYPE_CHECKING:
    from processors.operations.engine import Engine

spend = typer.Typer(no_args_is_help=True, help="The ledger of paid calls.")


@spend.command("show")
def show_spend(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a line.")] = False
) -> None:
    """Show for each pipeline what was spent or is reserved, and how many entries say so."""
    from processors.cli import show
    from processors.operations import spending

    context: Context = ctx.obj
    found = context.run(spending.spent)
    if as_json:
        for one in found:
            typer.echo(show.spend_json(one))
    else:
        show.console().print(show.spend_table(found))


@spend.command("forget")
def forget(
    ctx: typer.Context,
    older_than: Annotated[str, typer.Option(help="Age of their last change, for example 90d.", metavar="AGE")],
    give_back: Annotated[
        bool, typer.Option("--give-back", help="Take their cost out of the sum too: the cap has room again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be forgotten.")] = False,
) -> None:
    """Forget old entries whose sagas are forgotten. What they cost stays in the sum, unless --give-back.

    A result that is forgotten is not reused: the same question is paid for again.
    """
    from processors.durations import parse_duration
    from processors.operations import spending

    try:
        age = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error

    async def forget_all(engine: Engine) -> None:
        async for one in spending.forget(engine, age, give_back=give_back, dry_run=dry_run):
            how = "given back" if give_back else "carried on"
            typer.echo(f"{one.pipeline}: {one.entries} entries, {one.cost} {how}")

    context: Context = ctx.obj
    context.run(forget_all)
