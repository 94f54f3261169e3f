"""Buckets in the order of their places: what the timer wheel and the ages of sagas are kept in.

Opening a bucket costs O(log buckets), finding one O(1), emptying one O(1) and now and then a sort; the first place is
O(log buckets) for each bucket that was emptied before it. How much lies in a bucket doesn't matter.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

B = TypeVar("B")

# Places that were emptied stay in the heap until they are first, or are too many. Fewer than so many aren't worth sorting.
_MANY_EMPTY = 1_000


class Buckets(Generic[B]):
    """Look a bucket up, and replace it, in `at`; open() and empty() say which places there are."""

    __slots__ = ("_order", "at")

    def __init__(self) -> None:
        self.at: dict[int, B] = {}
        # A heap of every bucket's place, and of some that were emptied or opened again since.
        self._order: list[int] = []

    def open(self, place: int, bucket: B) -> None:
        """Put a bucket where there is none."""
        heapq.heappush(self._order, place)
        self.at[place] = bucket

    def empty(self, place: int) -> None:
        """Take a bucket away."""
        del self.at[place]
        if len(self._order) > 2 * len(self.at) + _MANY_EMPTY:
            # Left to their time, an hour's empty places would take more memory than the sagas in flight.
            self._order = sorted(self.at)

    def first(self) -> int | None:
        """The lowest place that has a bucket."""
        order = self._order
        while order and order[0] not in self.at:
            heapq.heappop(order)
        return order[0] if order else None
