"""`scrapesaga worker | up | demo`: run the engine, one role of it or all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from processors.cli.context import DATA_DIR, DEFAULT_DATA_DIR, Context

DataDir = Annotated[Path, typer.Option(envvar=DATA_DIR, help="Folder of the local engine; kept between runs.")]
_DEFAULT_DIR = Path(DEFAULT_DATA_DIR)


def worker(
    ctx: typer.Context,
    roles: Annotated[
        list[str],
        typer.Argument(
            help="intake, coordinator, auditor, the name of a step, or a role of a plugin; see `scrapesaga roles`.",
            metavar="ROLE",
        ),
    ],
) -> None:
    """Run roles of the engine in one process until SIGTERM. Settings come from SCRAPESAGA_* variables."""
    # Faust is imported only where it is used: looking at a job must not take a second longer for it.
    from processors.process.process import run_roles

    context: Context = ctx.obj
    raise typer.Exit(run_roles(context.settings, roles))


def roles(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """List the roles that `worker` can run: what each reads, writes and scales by. <step> is the name of a step."""
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
        raise LocalError(
            f"{data_dir} can't be created ({error.strerror}); give another folder with --data-dir"
        ) from error


def up(
    data_dir: DataDir = _DEFAULT_DIR,
    pipelines: Annotated[
        list[Path] | None, typer.Option(exists=True, help="Pipeline file or folder; may be repeated.")
    ] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Use this Kafka instead of starting one.")] = None,
    clickhouse_url: Annotated[str | None, typer.Option(help="Use this ClickHouse instead of starting one.")] = None,
    processes: Annotated[
        str,
        typer.Option(
            help="Which roles share a process: each (no roles), one (all roles), or for example "
            "intake+coordinator,fetch+parse. The auditor and roles of plugins run only if you name them here."
        ),
    ] = "each",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; return when everything is up.")
    ] = False,
) -> None:
    """Run the whole engine on this machine until Ctrl-C or `down`: Kafka, ClickHouse and every role.

    What ends by itself is started again. A changed pipeline file is taken up; sagas in flight keep their plan.
    """
    named = os.environ.get("SCRAPESAGA_PIPELINES", "")
    places = pipelines or [Path(one.strip()) for one in named.split(",") if one.strip()]
    if not places:
        raise typer.BadParameter("give a pipeline file, or set SCRAPESAGA_PIPELINES", param_hint="--pipelines")
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
    """Stop the engine that `up` runs in this folder, in the background or in another terminal. Its data stays."""
    from processors.local.background import down as stop

    typer.echo(f"stopped, pid {stop(data_dir)}.")


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Roles, kafka, clickhouse or up; by default all.", metavar="NAME")
    ] = None,
    data_dir: DataDir = _DEFAULT_DIR,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of last lines to show of each.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines as they come, until Ctrl-C.")] = False,
) -> None:
    """Show the logs of the roles and servers of the engine in this folder."""
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
    urls: Annotated[int, typer.Option(min=1, help="Number of product pages to scrape.")] = 300,
    fault_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the answers of shop and API that fail.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed makes the same shop and the same faults.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data, also if the verdict is clean.")] = False,
    kill: Annotated[
        list[str] | None,
        typer.Option(
            help="Kill this with kill -9 in the middle: a role, broker or clickhouse; may be repeated.", metavar="ROLE"
        ),
    ] = None,
    late_charges: Annotated[
        bool,
        typer.Option("--late-charges", help="The paid API charges some calls after their cancellation found nothing."),
    ] = False,
) -> None:
    """Scrape a sample shop while requests fail, and check the result from outside. Ends with 4 if the check fails."""
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
