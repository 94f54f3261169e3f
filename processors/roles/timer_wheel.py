"""The index of timers: a wheel of buckets per partition, rebuilt from the table after each assignment.

Arming costs O(1), and O(log buckets) where it opens a bucket; disarming O(1); finding what is due O(log buckets): the
number of sagas in flight doesn't matter. A bucket rings only once its end has passed, so no timer is ever early by this
clock.
"""

from __future__ import annotations

from collections.abc import Iterator

from processors.roles.buckets import Buckets

# Finer than any timer needs, and coarse enough that a million sagas that wait for the same few minutes share buckets.
BUCKET_MS = 10

# (key, seq)
Timer = tuple[bytes, int]


class TimerWheel:
    """The timers of one partition: when each state (key, seq) is due. Times are milliseconds."""

    def __init__(self) -> None:
        # Most sagas with a long wait are alone in their bucket, and a dict takes 170 bytes more than a tuple.
        self._buckets: Buckets[Timer | dict[bytes, int]] = Buckets()
        self._armed = 0

    def __len__(self) -> int:
        return self._armed

    def arm(self, key: bytes, seq: int, due_ms: int) -> None:
        """Arm the timer of this state for `due_ms`; 0: never."""
        if not due_ms:
            return
        place = -(-due_ms // BUCKET_MS)
        bucket = self._buckets.at.get(place)
        if bucket is None:
            self._buckets.open(place, (key, seq))
            self._armed += 1
            return
        if isinstance(bucket, tuple):
            bucket = self._buckets.at[place] = dict((bucket,))
        if key not in bucket:
            self._armed += 1
        bucket[key] = seq

    def disarm(self, key: bytes, due_ms: int) -> None:
        """Disarm the timer for `due_ms`, if it hasn't fired."""
        if not due_ms:
            return
        place = -(-due_ms // BUCKET_MS)
        bucket = self._buckets.at.get(place)
        if bucket is None:
            return
        if isinstance(bucket, tuple):
            if bucket[0] != key:
                return
            self._buckets.empty(place)
        elif bucket.pop(key, None) is None:
            return
        elif not bucket:
            self._buckets.empty(place)
        self._armed -= 1

    def due(self, now_ms: int, limit: int = 10_000) -> Iterator[Timer]:
        """Remove and return timers that are due, oldest first, at most `limit`: (key, seq)."""
        for _ in range(limit):
            place = self._buckets.first()
            if place is None or place * BUCKET_MS > now_ms:
                return
            yield self._take(place)

    def next_ms(self) -> int | None:
        """When the next bucket ends, or None."""
        place = self._buckets.first()
        return None if place is None else place * BUCKET_MS

    def _take(self, place: int) -> Timer:
        self._armed -= 1
        bucket = self._buckets.at[place]
        if isinstance(bucket, tuple):
            self._buckets.empty(place)
            return bucket
        timer = bucket.popitem()
        if not bucket:
            self._buckets.empty(place)
        return timer
