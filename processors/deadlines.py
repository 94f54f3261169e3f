"""The index of deadlines: a wheel of buckets per partition, rebuilt from the table after each assignment.

Arming and disarming cost O(1), finding what is due O(log buckets): the number of sagas in flight doesn't matter. A
bucket rings only once its end has passed, so no timer is ever early by this clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

# Finer than any deadline needs, coarse enough that a million waiting sagas share some thousand buckets.
BUCKET_MS = 10


class Deadlines:
    """Which state (key, seq) of one partition is due when. Times are milliseconds."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[bytes, int]] = {}
        self._order: list[int] = []
        self._armed = 0

    def __len__(self) -> int:
        return self._armed

    def arm(self, key: bytes, seq: int, due_ms: int) -> None:
        """Ring for this state once `due_ms` has passed; 0 means never."""
        if not due_ms:
            return
        place = -(-due_ms // BUCKET_MS)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = {}
            heapq.heappush(self._order, place)
        if key not in bucket:
            self._armed += 1
        bucket[key] = seq

    def disarm(self, key: bytes, due_ms: int) -> None:
        """Forget the timer that was armed for `due_ms`, if it hasn't rung."""
        if not due_ms:
            return
        bucket = self._buckets.get(-(-due_ms // BUCKET_MS))
        # An empty bucket stays until its time: taking it out of the heap would cost more.
        if bucket is not None and bucket.pop(key, None) is not None:
            self._armed -= 1

    def due(self, now_ms: int, limit: int = 10_000) -> Iterator[tuple[bytes, int]]:
        """Take out what is due, oldest first, at most `limit` of it: (key, seq)."""
        taken = 0
        while self._order and self._order[0] * BUCKET_MS <= now_ms and taken < limit:
            place = self._order[0]
            bucket = self._buckets[place]
            while bucket and taken < limit:
                key, seq = bucket.popitem()
                self._armed -= 1
                taken += 1
                yield key, seq
            if not bucket:
                del self._buckets[place]
                heapq.heappop(self._order)

    def next_ms(self) -> int | None:
        """When the next bucket ends, or None."""
        while self._order and not self._buckets[self._order[0]]:
            del self._buckets[heapq.heappop(self._order)]
        return self._order[0] * BUCKET_MS if self._order else None
