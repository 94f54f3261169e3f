"""How often something may be done: at once while it is seldom, at most so often under load."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

# A turn that came back in many small parts.
_WHOLE = 1 - 1e-6


class TokenBucket:
    """A token bucket: `burst` turns at once, `per_second` of them from then on.

    What waits for its turn grows meanwhile, so that one turn does the work of many. Nothing waits that comes seldom.
    """

    __slots__ = ("_burst", "_clock", "_filled_at", "_left", "_per_second")

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._filled_at = clock()

    def take(self) -> bool:
        """Take a turn if there is one left."""
        self._fill()
        if self._left < _WHOLE:
            return False
        self._left -= 1
        return True

    def wait_s(self) -> float:
        """After how many seconds the next turn is there."""
        self._fill()
        return max(0.0, (1 - self._left) / self._per_second)

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._filled_at) * self._per_second)
        self._filled_at = now
