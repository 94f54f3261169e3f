"""Keeps a library from saying the same thing a hundred times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

# A broker that is away for an hour made 288,000 lines a process; one in ten seconds still shows that it goes on.
_EVERY_S = 10.0


class Repeats(logging.Filter):
    """Passes a message of a library at most once in ten seconds, then with how many like it were held back.

    Messages are alike if they were made from the same text, and have the same `first` arguments.
    """

    def __init__(self, library: str, first: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(library)
        self._first = first
        self._clock = clock
        self._passed: dict[tuple[str, int, str], float] = {}
        self._held_back: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record."""
        if not super().filter(record):
            return True
        args = record.args[: self._first] if isinstance(record.args, tuple) else ()
        key, now = (record.name, record.levelno, f"{record.msg} {args}"), self._clock()
        last = self._passed.get(key)
        if last is not None and now - last < _EVERY_S:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return False
        self._passed[key] = now
        if held_back := self._held_back.pop(key, 0):
            record.msg, record.args = f"{record.getMessage()} ({held_back} more like it)", ()
        return True
