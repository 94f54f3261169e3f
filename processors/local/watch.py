"""Watches one server of an engine, and starts it again when it ends by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from processors.local.errors import LocalError
from processors.local.server import LocalServer

_LOOK_EVERY_S = 0.1
# The first start is tried at once; a server that can't be started is tried ever more seldom.
_FIRST_DELAY, _LONGEST_DELAY = timedelta(seconds=0.5), timedelta(seconds=10)
# A start under way notices within this time that nobody wants it any more.
_GIVEN_UP_WITHIN_S = 10.0


class ServerWatch:
    """A thread that revives a server; `tell` is called there with a sentence whenever that happens, or can't be done."""

    def __init__(self, server: LocalServer, tell: Callable[[str], None]) -> None:
        self._server = server
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{server.port_name}", daemon=True)
        self.restarts = 0

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def end(self) -> None:
        """Watch no more: call it before the server is stopped for good, and `join` after that."""
        self._over.set()

    def join(self) -> None:
        """Wait for the thread: a start that was under way has been given up."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_GIVEN_UP_WITHIN_S)

    def _run(self) -> None:
        delay = timedelta(0)
        told = False
        while not self._over.wait(max(delay.total_seconds(), _LOOK_EVERY_S)):
            if not self._server.is_lost:
                delay, told = timedelta(0), False
                continue
            if not told:
                self._tell(f"{self._server.what} ended unexpectedly; restarting it")
                told = True
            delay = self._revive(delay)
            # Back: it may be lost again before the next look.
            told = delay > timedelta(0)

    def _revive(self, delay: timedelta) -> timedelta:
        """Try once; return how long to wait before the next look."""
        began = time.monotonic()
        try:
            if self._server.revive():
                self.restarts += 1
                self._tell(f"{self._server.what} is back after {time.monotonic() - began:.1f} s")
            return timedelta(0)
        except (LocalError, OSError) as error:
            if self._over.is_set():
                return timedelta(0)
            following = min(max(delay * 2, _FIRST_DELAY), _LONGEST_DELAY)
            self._tell(f"{error}\nNext try in {following.total_seconds():g} s.")
            return following
