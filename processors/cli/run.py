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
    from rich.table import Table

    from processors.cli import show
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
    processes: Annotated[
        str,
        typer.Option(
            help="Which roles share a process: each (none), one (all of them), or for example "
            "intake+coordinator,fetch+parse; auditor and roles of plugins run where they are named."
        ),
    ] = "each",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run it in the background; return once everything is up.")
    ] = False,
) -> None:
    """Run the whole engine on this machine until Ctrl-C or `down`: Kafka, ClickHouse and every role.

    What ends by itself is started again. A changed pipeline file is taken up; sagas in flight keep their plan.
    """
    named = os.environ.get("SCRAPESAGA_PIPELINES", "")
    places = pipelines or [Path(one.strip()) for one in named.split(",") if one.strip()]
    if not places:
        raise typer.BadParameter("name a pipeline file, or set SCRAPESAGA_PIPELINES", param_hint="--pipelines")
    make_folder(data_dir)
    if detach:
        from processors.local.background import up_detached

        own = {"bootstrap_servers": bootstrap_servers, "clickhouse_url": clickhouse_url, "processes": processes}
        pid = up_detached(data_dir, places, own)
        typer.echo(f"up in the background, pid {pid}; see `scrapesaga logs`, stop it with `scrapesaga down`.")
        return
    from processors.local.up import run_up

    code = run_up(
        data_dir=data_dir,
        pipelines=places,
        bootstrap_servers=bootstrap_servers,
        clickhouse_url=clickhouse_url,
        processes=processes,
    )
    raise typer.Exit(code)


def down(data_dir: DataDir = _DEFAULT_DIR) -> None:
    """Stop the engine that `up` runs in this folder, in the background or in another terminal; its data stays."""
    from processors.local.background import down as stop

    typer.echo(f"stopped, pid {stop(data_dir)}.")


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Roles, kafka, clickhouse or up; all if none is named.", metavar="NAME")
    ] = None,
    data_dir: DataDir = _DEFAULT_DIR,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
) -> None:
    """Show what the roles and servers of this folder's engine have to say."""
    from processors.local.background import ends, followed, log_files

    found = log_files(data_dir, names or ())
    width = max(map(len, found))
    for name, line in ends(found, lines):
        typer.echo(f"{name:<{width}}  {line}")
    if follow:
        for name, line in followed(found):
            typer.echo(f"{name:<{width}}  {line}")


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
    late_charges: Annotated[
        bool,
        typer.Option("--late-charges", help="Let the paid API charge some calls after they were cancelled in vain."),
    ] = False,
) -> None:
    """Scrape a sample shop with failures all along, and judge the result from outside: 4 if it isn't clean."""
    from processors.demo.demo import run_demo

    make_folder(data_dir)
    code = run_demo(
        urls=urls,
        fault_rate=fault_rate,
        data_dir=data_dir,
        seed=seed,
        keep=keep,
        kills=tuple(kill or ()),
        late_charges=late_charges,
    )
    raise typer.Exit(code)
