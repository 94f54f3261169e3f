"""`scrapesaga up`: the whole engine on this machine until Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from processors.local.engine import LocalEngine
from processors.process.layout import EACH
from processors.settings.environment import PREFIX
from processors.settings.settings import SETTINGS


def run_up(
    *,
    data_dir: Path,
    pipelines: Sequence[Path],
    bootstrap_servers: str | None = None,
    clickhouse_url: str | None = None,
    processes: str = EACH,
) -> int:
    """Run until Ctrl-C or SIGTERM; a second run goes on where the first stopped. Returns the exit code."""
    console = Console()
    settings, secrets = given(os.environ)
    engine = LocalEngine(
        data_dir,
        pipelines,
        bootstrap_servers=bootstrap_servers,
        clickhouse_url=clickhouse_url,
        settings=settings,
        extra=secrets,
        processes=processes,
    )
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, lambda *_: engine.supervisor.request_stop())
    with console.status("starting Kafka, ClickHouse and the processors ..."):
        engine.start()
    console.print(f"[green]up[/green]  Kafka {engine.bootstrap_servers}  ClickHouse {engine.clickhouse_url}")
    for name, pid in engine.supervisor.pids().items():
        console.print(f"    {name:<14} pid {pid:<8} {engine.observed[name]}/metrics")
    console.print("submit with `scrapesaga submit URL`; Ctrl-C stops everything.")
    engine.supervisor.wait()
    killed = engine.stop()
    console.print("stopped." if not killed else f"stopped; killed after their time: {', '.join(killed)}")
    return 0


def given(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings of this shell, and apart from them those that are secrets: they are written to no file."""
    secret = {variable for setting in SETTINGS if setting.kind.secret for variable in setting.variables}
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    return (
        {name: value for name, value in given.items() if name not in secret},
        {name: value for name, value in given.items() if name in secret},
    )
