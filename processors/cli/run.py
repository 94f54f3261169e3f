"""`scrapesaga worker | up | demo`: run the engine, one role of it or all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from processors.cli.context import DATA_DIR, DEFAULT_DATA_DIR, Context

DataDir = Annotated[Path, typer.Option(envvar=DATA_DIR, help="Folder of everything local; kept between runs.")]
_DEFAULT_DIR = Path(DEFAULT_DATA_DIR)


def worker(
    ctx: typer.Context,
    roles: Annotated[list[str], typer.Argument(help="intake, coordinator, or a step's name.", metavar="ROLE")],
) -> None:
    """Play roles of the engine until SIGTERM. Settings come from SCRAPESAGA_* variables."""
    # Faust is imported only where it is used: looking at a job must not take a second longer for it.
    from processors.process.process import run_roles

    context: Context = ctx.obj
    raise typer.Exit(run_roles(context.settings, roles))


def make_folder(data_dir: Path) -> None:
    """Make the folder of everything local, unless it is there. Raises LocalError."""
    from processors.local.errors import LocalError

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
) -> None:
    """Run the whole engine on this machine until Ctrl-C: Kafka, ClickHouse and every role."""
    from processors.local.up import run_up

    named = os.environ.get("SCRAPESAGA_PIPELINES", "")
    places = pipelines or [Path(one.strip()) for one in named.split(",") if one.strip()]
    if not places:
        raise typer.BadParameter("name a pipeline file, or set SCRAPESAGA_PIPELINES", param_hint="--pipelines")
    make_folder(data_dir)
    code = run_up(
        data_dir=data_dir, pipelines=places, bootstrap_servers=bootstrap_servers, clickhouse_url=clickhouse_url
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
