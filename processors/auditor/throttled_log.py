"""Log lines about broken promises: the first of each kind whole, the rest counted, so that a broken build fills no disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from processors.auditor.violations import label_of, position_fields
from processors.saga.invariants import Violation

log = logging.getLogger(__name__)

LINES = 20
PER_S = 60.0


@dataclass(slots=True)
class _Window:
    since_s: float
    lines: int = 0
    left_out: int = 0


class ThrottledLog:
    """Logs at most some lines a minute for each promise; the first line after a silence says how many were left out."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def write(self, violation: Violation, now_s: float) -> None:
        """Log a broken promise with the record that shows it, or count it."""
        window = self._windows.get(violation.rule)
        left_out = 0
        if window is None or now_s - window.since_s >= PER_S:
            left_out = 0 if window is None else window.left_out
            window = self._windows[violation.rule] = _Window(now_s)
        if window.lines >= LINES:
            window.left_out += 1
            return
        window.lines += 1
        fields = {
            "job_id": violation.job_id,
            **position_fields(violation),
            "detail": violation.detail,
            "invariant": label_of(violation.rule),
        }
        log.error("invariant violated: %s", violation.rule, extra=fields | ({"left_out": left_out} if left_out else {}))
