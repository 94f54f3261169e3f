"""Faults that the chDB front commits on request, for tests and chaos runs."""

from __future__ import annotations

import json
import threading
from enum import StrEnum


class InsertFault(StrEnum):
    """How the front misbehaves."""

    OK = "ok"
    # Answers 503 and does nothing.
    REFUSE = "refuse"
    # Applies an insert, then closes the connection without an answer: the client cannot know.
    DROP_MID_INSERT = "drop-mid-insert"
    # Holds the request until the mode is set anew, then carries it out, maybe long after the client gave up.
    HANG = "hang"


class InsertFaults:
    """The fault in force, and for how many more requests; shared by all of the front's threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._mode = InsertFault.OK
        self._left: int | None = None
        self._generation = 0
        self._hanging = 0

    def set(self, mode: InsertFault, count: int | None = None) -> None:
        """Commit `mode` for the next `count` requests that it fits, or until told otherwise; free those that hang."""
        with self._changed:
            self._mode, self._left = mode, count
            self._generation += 1
            self._changed.notify_all()

    def set_from_json(self, body: bytes) -> None:
        """Read {"mode": …, "count": …}; raises ValueError that says what is wrong."""
        wish = json.loads(body)
        if not isinstance(wish, dict) or wish.get("mode") not in list(InsertFault):
            raise ValueError(f'Send {{"mode": one of {", ".join(InsertFault)}, "count": how many requests}}.')
        count = wish.get("count")
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ValueError("count is the number of requests, 1 or more; leave it out for no limit.")
        self.set(InsertFault(wish["mode"]), count)

    def as_json(self) -> bytes:
        """Tell what is in force, with how many requests hang now."""
        with self._changed:
            return json.dumps({"mode": self._mode, "count": self._left, "hanging": self._hanging}).encode()

    def next(self, *, is_insert: bool) -> InsertFault:
        """Take the fault for one request."""
        with self._changed:
            mode = self._mode
            if mode is InsertFault.OK or (mode is InsertFault.DROP_MID_INSERT and not is_insert):
                return InsertFault.OK
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._mode, self._left = InsertFault.OK, None
            return mode

    def hang(self) -> None:
        """Block until the mode is set anew."""
        with self._changed:
            generation = self._generation
            self._hanging += 1
            self._changed.wait_for(lambda: self._generation != generation)
            self._hanging -= 1
