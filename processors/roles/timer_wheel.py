"""The index of deadlines: a wheel of buckets per partition, rebuilt from the table after each assignment.

Arming costs O(1), and O(log buckets) where it opens a bucket; disarming O(1); finding what is due O(log buckets): the
number of sagas in flight doesn't matter. A bucket rings only once its end has passed, so no timer is ever early by this
clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

# Finer than any deadline needs, coarse enough that a million sagas which wait for the same few minutes share buckets.
BUCKET_MS = 10
# Under load nearly every timer is disarmed an hour before its time. Fewer than so many are not worth the sorting.
_MANY_EMPTY = 1_000

# (key, seq)
Timer = tuple[bytes, int]


class TimerWheel:
    """Which state (key, seq) of one partition is due when. Times are milliseconds."""

    def __init__(self) -> None:
        # Sagas that wait for long are mostly alone in their bucket, where a dict takes 170 bytes more than a tuple.
        self._buckets: dict[int, Timer | dict[bytes, int]] = {}
        # A heap of every bucket's place, and of some that were emptied or opened again since.
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
            heapq.heappush(self._order, place)
            self._buckets[place] = (key, seq)
            self._armed += 1
            return
        if isinstance(bucket, tuple):
            bucket = self._buckets[place] = dict((bucket,))
        if key not in bucket:
            self._armed += 1
        bucket[key] = seq

    def disarm(self, key: bytes, due_ms: int) -> None:
        """Forget the timer that was armed for `due_ms`, if it hasn't rung."""
        if not due_ms:
            return
        place = -(-due_ms // BUCKET_MS)
        bucket = self._buckets.get(place)
        if bucket is None:
            return
        if isinstance(bucket, tuple):
            if bucket[0] != key:
                return
            del self._buckets[place]
        elif bucket.pop(key, None) is None:
            return
        elif not bucket:
            del self._buckets[place]
        self._armed -= 1
        if len(self._order) > 2 * len(self._buckets) + _MANY_EMPTY:
            # Left to their time, an hour's empty places would take more memory than the sagas in flight.
            self._order = sorted(self._buckets)

    def due(self, now_ms: int, limit: int = 10_000) -> Iterator[Timer]:
        """Take out what is due, oldest first, at most `limit` of it: (key, seq)."""
        for _ in range(limit):
            ends_ms = self.next_ms()
            if ends_ms is None or ends_ms > now_ms:
                return
            yield self._take(self._order[0])

    def next_ms(self) -> int | None:
        """When the next bucket ends, or None."""
        while self._order and self._order[0] not in self._buckets:
            heapq.heappop(self._order)
        return self._order[0] * BUCKET_MS if self._order else None

    def _take(self, place: int) -> Timer:
        self._armed -= 1
        bucket = self._buckets[place]
        if isinstance(bucket, tuple):
            del self._buckets[place]
            return bucket
        timer = bucket.popitem()
        if not bucket:
            del self._buckets[place]
        return timer
