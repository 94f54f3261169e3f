"""Buckets in the order of their places, for the timer wheel and the ages of sagas.

Opening a bucket costs O(log buckets), finding one O(1), emptying one O(1) and now and then a sort; the first place is
O(log buckets) for each bucket that was emptied before it. How much lies in a bucket doesn't matter.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

B = TypeVar("B")

# Empty places stay in the heap until they are first, or too many. Below this number, sorting is not worth it.
_MANY_EMPTY = 1_000


class Buckets(Generic[B]):
    """Read and replace buckets in `at`; open() and empty() add and remove places."""

    __slots__ = ("_order", "at")

    def __init__(self) -> None:
        self.at: dict[int, B] = {}
        # A heap of the places of all buckets, and of some that were emptied or opened again since.
        self._order: list[int] = []

    def open(self, place: int, bucket: B) -> None:
        """Add a bucket at a free place."""
        heapq.heappush(self._order, place)
        self.at[place] = bucket

    def empty(self, place: int) -> None:
        """Remove a bucket."""
        del self.at[place]
        if len(self._order) > 2 * len(self.at) + _MANY_EMPTY:
            # Otherwise the empty places of an hour would take more memory than the sagas in flight.
            self._order = sorted(self.at)

    def first(self) -> int | None:
        """The lowest place that has a bucket."""
        order = self._order
        while order and order[0] not in self.at:
            heapq.heappop(order)
        return order[0] if order else None
