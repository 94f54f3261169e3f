"""`scrapesaga spend`: show the ledger of paid calls, and remove entries that no saga needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from processors.cli.context import Context

if TYPE_CHECKING:
    from processors.operations.engine import Engine

spend = typer.Typer(no_args_is_help=True, help="Show and prune the ledger of paid calls.")


@spend.command("show")
def show_spend(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Show for each pipeline the money spent or reserved, and the number of entries."""
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
    older_than: Annotated[
        str, typer.Option(help="Remove entries that did not change for this long, such as 90d.", metavar="AGE")
    ],
    give_back: Annotated[
        bool, typer.Option("--give-back", help="Subtract their cost from the sum too: the cap has room again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove old entries whose sagas are forgotten. Their cost stays in the sum, unless you use --give-back.

    A removed result is not reused: the same request is paid for again.
    """
    from processors.durations import parse_duration
    from processors.operations import spending

    try:
        age = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error

    async def forget_all(engine: Engine) -> None:
        async for one in spending.forget(engine, age, give_back=give_back, dry_run=dry_run):
            how = "subtracted from the sum" if give_back else "kept in the sum"
            typer.echo(f"{one.pipeline}: {one.entries} entries, {one.cost} {how}")

    context: Context = ctx.obj
    context.run(forget_all)
