"""How many sagas of a partition are in which phase, and since when the oldest of each: kept up by the coordinator.

A move costs O(1), and O(log seconds) where it opens a new second; what is asked of it at a scrape costs no walk over sagas.
"""

from __future__ import annotations

import heapq

from processors.saga.state import ENDED, Phase

#: Phases of sagas that somebody waits for.
UNFINISHED: tuple[Phase, ...] = tuple(phase for phase in Phase if phase not in ENDED and phase is not Phase.NEW)

# Ages are told to the second: sagas in flight, however many, share some thousand buckets.
_BUCKET_MS = 1_000
# Behind one saga that hangs, seconds are emptied that the heap can't give up one by one.
_MANY_EMPTY = 1_000


class SagaCounts:
    """The sagas of one partition. Times are milliseconds."""

    __slots__ = ("_began", "counts")

    def __init__(self) -> None:
        self.counts: dict[Phase, int] = dict.fromkeys(Phase, 0)
        self._began: dict[Phase, _Began] = {phase: _Began() for phase in UNFINISHED}

    def enter(self, phase: Phase, started_ms: int) -> None:
        """Count a saga in; its run began at `started_ms`."""
        self.counts[phase] += 1
        began = self._began.get(phase)
        if began is not None:
            began.add(started_ms)

    def leave(self, phase: Phase, started_ms: int) -> None:
        """Count a saga out, as it was counted in."""
        self.counts[phase] -= 1
        began = self._began.get(phase)
        if began is not None:
            began.remove(started_ms)

    def oldest_ms(self, phase: Phase) -> int | None:
        """When the oldest run of an unfinished phase began, rounded down to the second; None if there is none."""
        return self._began[phase].oldest_ms()


class _Began:
    """Beginnings, counted by second."""

    __slots__ = ("_counts", "_empty", "_order")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._order: list[int] = []
        self._empty = 0

    def add(self, at_ms: int) -> None:
        place = at_ms // _BUCKET_MS
        count = self._counts.get(place)
        if count is None:
            heapq.heappush(self._order, place)
        elif not count:
            self._empty -= 1
        self._counts[place] = (count or 0) + 1

    def remove(self, at_ms: int) -> None:
        place = at_ms // _BUCKET_MS
        self._counts[place] -= 1
        if self._counts[place]:
            return
        self._empty += 1
        while self._order and not self._counts[self._order[0]]:
            del self._counts[heapq.heappop(self._order)]
            self._empty -= 1
        if self._empty > _MANY_EMPTY and self._empty * 2 > len(self._order):
            self._drop_empty()

    def oldest_ms(self) -> int | None:
        return self._order[0] * _BUCKET_MS if self._order else None

    def _drop_empty(self) -> None:
        self._counts = {place: count for place, count in self._counts.items() if count}
        self._order = sorted(self._counts)
        self._empty = 0
