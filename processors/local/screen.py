"""What `scrapesaga up` shows: one line that says what is going on, and above it a line for each event."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape

from processors.local.engine import LocalEngine
from processors.process.roles import COORDINATOR

_LOOK_EVERY_S = 2.0
_SAGAS = re.compile(r'^scrapesaga_sagas\{phase="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)


class Screen:
    """The line and the events; on anything but a terminal, the events alone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("starting")
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._status.stop()

    def tell(self, sentence: str) -> None:
        """Show an event, with the time; may be called on any thread."""
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {escape(sentence)}", highlight=False)

    def doing(self, what: str) -> None:
        """Say on the line what the start waits for."""
        self._status.update(escape(what))

    def follow(self, engine: LocalEngine) -> None:
        """Keep the line true while the engine runs."""
        if self._console.is_terminal:
            threading.Thread(target=self._follow, args=(engine,), name="screen", daemon=True).start()

    def _follow(self, engine: LocalEngine) -> None:
        began = time.monotonic()
        while not self._over.is_set():
            since = timedelta(seconds=int(time.monotonic() - began))
            self._status.update(escape(f"up {since}  {summary(engine)}  Ctrl-C stops"))
            self._over.wait(_LOOK_EVERY_S)


def summary(engine: LocalEngine) -> str:
    """Return in a line whether servers and roles are well, and how many sagas there are in each phase."""
    parts = [f"{server.what} {'up' if server.is_up else 'AWAY'}" for server in engine.servers]
    waiting = engine.not_ready()
    total = len(engine.observed)
    parts.append(f"{total - len(waiting)} of {total} roles ready")
    if waiting:
        parts.append(f"waiting for {', '.join(waiting)}")
    parts += [f"{phase.lower()} {count}" for phase, count in _sagas(engine).items() if count]
    return "  ".join(parts)


def _sagas(engine: LocalEngine) -> dict[str, int]:
    try:
        with urllib.request.urlopen(f"{engine.observed[engine.process_of(COORDINATOR)]}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except (OSError, KeyError):
        return {}
    return {phase: round(float(count)) for phase, count in _SAGAS.findall(text)}
