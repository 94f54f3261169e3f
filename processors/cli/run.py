"""`scrapesaga worker | up | demo`: run the engine, one role of it or all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from processors.cli import show
from processors.cli.context import DATA_DIR, DEFAULT_DATA_DIR, Context
from processors.local.errors import LocalError

DataDir = Annotated[Path, typer.Option(envvar=DATA_DIR, help="Folder of everything local; kept between runs.")]
_DEFAULT_DIR = Path(DEFAULT_DATA_DIR)


def worker(
    ctx: typer.Context,
    roles: Annotated[
        list[str],
        typer.Argument(
            help="intake, coordinator, auditor, a step's name, or a plugin's role; see `scrapesaga roles`.",
            metavar="ROLE",
        ),
    ],
) -> None:
    """Play roles of the engine in one process until SIGTERM. Settings come from SCRAPESAGA_* variables."""
    # Faust is imported only where it is used: looking at a job must not take a second longer for it.
    from processors.process.process import run_roles

    context: Context = ctx.obj
    raise typer.Exit(run_roles(context.settings, roles))


def roles(
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a line.")] = False,
) -> None:
    """List the roles that `worker` can play: what each reads, writes, and scales by. <step> is a step's name."""
    from processors.process.role import STEP
    from processors.process.roles import ROLES, installed_roles, load_role
    from processors.process.step import step_role

    plugins = [load_role(point) for _, point in sorted(installed_roles().items())]
    table = Table("role", "reads", "writes", "scales by", "what it does", box=None, pad_edge=False)
    for role in (*ROLES.values(), step_role(STEP), *plugins):
        if as_json:
            about = {"role": role.name, "does": role.does, "reads": role.reads, "writes": role.writes}
            typer.echo(show.as_json({**about, "scales_by": role.scales_by, "settings": role.settings}))
        table.add_row(role.name, " ".join(role.reads), " ".join(role.writes), role.scales_by, role.does)
    if not as_json:
        show.console().print(table)


def make_folder(data_dir: Path) -> None:
    """Make the folder of everything local, unless it is there. Raises LocalError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{data_dir} can't be made ({error.strerror}); name another folder by --data-dir") from error


def up(
    data_dir: DataDir = _DEFAULT_DIR,
    pipelines: Annotated[
        list[Path] | None, typer.Option(exists=True, help="Pipeline file or folder; may be repeated.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="A Kafka of your own, instead of one started here.")
    ] = None,
    clickhouse_url: Annotated[str | None, typer.Option(help="A ClickHouse of your own, likewise.")] = None,
    processes: Annotated[
        str,
        typer.Option(
            help="Which roles share a process: each (none), one (all of them), or for example "
            "intake+coordinator,fetch+parse; auditor and roles of plugins run where they are named."
        ),
    ] = "each",
) -> None:
    """Run the whole engine on this machine until Ctrl-C: Kafka, ClickHouse and every role."""
    from processors.local.up import run_up

    named = os.environ.get("SCRAPESAGA_PIPELINES", "")
    places = pipelines or [Path(one.strip()) for one in named.split(",") if one.strip()]
    if not places:
        raise typer.BadParameter("name a pipeline file, or set SCRAPESAGA_PIPELINES", param_hint="--pipelines")
    make_folder(data_dir)
    code = run_up(
        data_dir=data_dir,
        pipelines=places,
        bootstrap_servers=bootstrap_servers,
        clickhouse_url=clickhouse_url,
        processes=processes,
    )
    raise typer.Exit(code)


def demo(
    data_dir: DataDir = _DEFAULT_DIR,
    urls: Annotated[int, typer.Option(min=1, help="Product pages to scrape.")] = 300,
    fault_rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of answers that fail.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Same seed, same shop and same faults.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the data in place after a clean verdict too.")] = False,
    kill: Annotated[
        list[str] | None,
        typer.Option(help="kill -9 this in the middle: a role, broker or clickhouse; may be repeated.", metavar="ROLE"),
    ] = None,
) -> None:
    """Scrape a sample shop with failures all along, and judge the result from outside: 4 if it isn't clean."""
    from processors.demo.demo import run_demo

    make_folder(data_dir)
    code = run_demo(urls=urls, fault_rate=fault_rate, data_dir=data_dir, seed=seed, keep=keep, kills=tuple(kill or ()))
    raise typer.Exit(code)
