"""`scrapesaga up`: the whole engine on this machine until Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from processors.local.engine import LocalEngine
from processors.local.reload import PipelineWatch
from processors.local.screen import Screen
from processors.process.layout import EACH
from processors.settings.environment import PREFIX
from processors.settings.settings import SETTINGS

INTERRUPTED = 130
_LOOK_EVERY = timedelta(seconds=1)


class StopAsked(BaseException):
    """Somebody pressed Ctrl-C while something was under way that has to be given up for it."""


class Stopping:
    """What Ctrl-C and SIGTERM do: the first ends all in order, whatever is under way; the second ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._may_interrupt = False
        self._is_ending = False

    def listen(self) -> None:
        """Take over the signals."""
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, self._heard)

    @contextmanager
    def interrupting(self) -> Any:
        """Within it a signal raises StopAsked; elsewhere it only sets `asked`, which is looked at soon."""
        self._may_interrupt = True
        try:
            self.check()
            yield
        finally:
            self._may_interrupt = False

    def ending(self) -> None:
        """From now on things are being stopped: one more signal raises StopAsked, not to wait for them."""
        self._may_interrupt, self._is_ending = False, True

    def check(self) -> None:
        """Raise StopAsked if a signal came: it may have been swallowed by a library that was under way."""
        if self.asked and self._may_interrupt:
            raise StopAsked

    def _heard(self, *_: object) -> None:
        again, self.asked = self.asked, True
        if self._may_interrupt or (again and self._is_ending):
            # Once: what is cleaned up for it shall not be interrupted as well.
            self._may_interrupt = self._is_ending = False
            raise StopAsked


def run_up(
    *,
    data_dir: Path,
    pipelines: Sequence[Path],
    bootstrap_servers: str | None = None,
    clickhouse_url: str | None = None,
    processes: str = EACH,
    announce: Callable[[str], None] = lambda _news: None,
) -> int:
    """Run until Ctrl-C or SIGTERM; a second run goes on where the first stopped. Returns the exit code.

    `announce` is called with what the start waits for, and with an empty text once everything is up.
    """
    console = Console()
    settings, secrets = given(os.environ)
    stopping = Stopping()
    screen = Screen(console)

    def doing(what: str) -> None:
        stopping.check()
        screen.doing(what)
        announce(what)

    engine = LocalEngine(
        data_dir,
        pipelines,
        bootstrap_servers=bootstrap_servers,
        clickhouse_url=clickhouse_url,
        settings=settings,
        extra=secrets,
        processes=processes,
        tell=screen.tell,
        doing=doing,
    )
    stopping.listen()
    started = False
    try:
        with screen:
            try:
                with stopping.interrupting():
                    engine.start()
                started = True
                _show(console, engine)
                announce("")
                _stay(engine, screen, stopping)
            except StopAsked:
                pass
            stopping.ending()
            screen.doing("stopping; press Ctrl-C again to end everything at once")
            killed = engine.stop()
    except StopAsked:
        # What is left of it ends with this process.
        console.print("ended at once.")
        return INTERRUPTED
    console.print("stopped." if not killed else f"stopped; killed after the time limit: {', '.join(killed)}")
    return 0 if started else INTERRUPTED


def _show(console: Console, engine: LocalEngine) -> None:
    console.print(f"[green]up[/green]  Kafka {engine.bootstrap_servers}  ClickHouse {engine.clickhouse_url}")
    for name, pid in engine.supervisor.pids().items():
        console.print(f"    {name:<14} pid {pid:<8} {engine.observed[name]}/metrics")
    console.print("submit with `scrapesaga submit URL`; Ctrl-C or `scrapesaga down` stops everything.", soft_wrap=True)


def _stay(engine: LocalEngine, screen: Screen, stopping: Stopping) -> None:
    screen.follow(engine)
    watch = PipelineWatch(engine)
    while not stopping.asked:
        with stopping.interrupting():
            watch.look()
            engine.supervisor.wait(_LOOK_EVERY)


def given(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings of this shell, and apart from them those that are secrets: they are written to no file."""
    secret = {variable for setting in SETTINGS if setting.kind.secret for variable in setting.variables}
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    return (
        {name: value for name, value in given.items() if name not in secret},
        {name: value for name, value in given.items() if name in secret},
    )
