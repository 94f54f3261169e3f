"""The number of sagas of a partition in each phase, and the age of the oldest; the coordinator updates them.

A move costs O(1), and O(log seconds) where it opens a new second; what is asked of it at a scrape costs no walk over sagas.
"""

from __future__ import annotations

from processors.roles.buckets import Buckets
from processors.saga.state import ENDED, Phase

#: Phases of unfinished sagas.
UNFINISHED: tuple[Phase, ...] = tuple(phase for phase in Phase if phase not in ENDED and phase is not Phase.NEW)

# Ages have a precision of a second, so all sagas in flight share about a thousand buckets.
_BUCKET_MS = 1_000


class SagaCounts:
    """The sagas of one partition. Times are milliseconds."""

    __slots__ = ("_began", "counts")

    def __init__(self) -> None:
        self.counts: dict[Phase, int] = dict.fromkeys(Phase, 0)
        # The number of runs that began in each second.
        self._began: dict[Phase, Buckets[int]] = {phase: Buckets() for phase in UNFINISHED}

    def enter(self, phase: Phase, started_ms: int) -> None:
        """Add a saga whose run began at `started_ms`."""
        self.counts[phase] += 1
        began = self._began.get(phase)
        if began is None:
            return
        second = started_ms // _BUCKET_MS
        count = began.at.get(second)
        if count is None:
            began.open(second, 1)
        else:
            began.at[second] = count + 1

    def leave(self, phase: Phase, started_ms: int) -> None:
        """Remove a saga, with the same arguments as add."""
        self.counts[phase] -= 1
        began = self._began.get(phase)
        if began is None:
            return
        second = started_ms // _BUCKET_MS
        count = began.at[second]
        if count == 1:
            began.empty(second)
        else:
            began.at[second] = count - 1

    def oldest_ms(self, phase: Phase) -> int | None:
        """When the oldest run of an unfinished phase began, rounded down to the second; None if there is none."""
        second = self._began[phase].first()
        return None if second is None else second * _BUCKET_MS
