"""Which records of one partition are handed out and finished, during one assignment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from faust.types import TP


def moved(before: Mapping[TP, int | None], now: Mapping[TP, int]) -> dict[TP, int | None]:
    """Return the partitions that somebody has committed further since, with what was committed before; None: nothing."""
    return {tp: at for tp, at in before.items() if tp in now and (at is None or at < now[tp])}


class OffsetTracker:
    """Knows the offset that can be committed: the lowest unfinished one.

    Offsets are not records. Behind the last record of a partition may lie a transaction's marker, or records that were
    aborted: once all before them is done they are passed over, or the partition would lag for ever.

    One object per partition and assignment. When the partition is revoked it is closed, and whoever still holds records
    of it can acknowledge them in vain: they are already on their way to the next owner.
    """

    __slots__ = (
        "_after",
        "_done",
        "_handed",
        "_handed_at",
        "_inherited_below",
        "_on_done",
        "_position",
        "_queued_to",
        "committed",
        "owned",
    )

    def __init__(self, on_done: Callable[[], None], inherited_below: int = 0) -> None:
        self.owned = True
        self.committed: int | None = None
        self._on_done = on_done
        # The end of the partition at its assignment: an earlier owner may have started any record before it.
        self._inherited_below = inherited_below
        # Offsets that were handed out, from the lowest unfinished one.
        self._handed: deque[int] = deque()
        # Finished, while a lower offset isn't.
        self._done: set[int] = set()
        # (last offset, clock) of each hand-out that isn't finished.
        self._handed_at: deque[tuple[int, float]] = deque()
        self._after: int | None = None
        # Behind the last record that waits or has waited for the agent, and where the next fetch begins.
        self._queued_to: int | None = None
        self._position = -1

    @property
    def in_flight(self) -> int:
        """Records that are handed out and unfinished."""
        return len(self._handed) - len(self._done)

    @property
    def committable(self) -> int | None:
        """The offset to commit; None if it is already committed."""
        if not self.owned or self._after is None:
            return None
        offset = self._handed[0] if self._handed else self._after
        return None if offset == self.committed else offset

    @property
    def oldest_handed_at(self) -> float | None:
        """When the oldest unfinished record was handed out."""
        return self._handed_at[0][1] if self._handed_at else None

    def inherited(self, offset: int) -> bool:
        """Whether the record is older than this assignment, so that an earlier owner may have started it."""
        return offset < self._inherited_below

    def queue(self, last: int) -> None:
        """Note that records through an offset wait for the agent."""
        self._queued_to = last + 1

    def fetched_to(self, position: int) -> None:
        """Note that all records below an offset were fetched, and wait for the agent if they are there at all."""
        self._position = position
        self._pass_over()

    def hand_out(self, offsets: Sequence[int], now: float) -> None:
        """Note that records go to the agent; offsets rise."""
        if self._after is None:
            # Earlier offsets are committed already: this is the start offset from the broker.
            self.committed = offsets[0] if self.committed is None else self.committed
        self._handed.extend(offsets)
        self._after = offsets[-1] + 1
        self._handed_at.append((offsets[-1], now))

    def done(self, offset: int) -> None:
        """Note that a record is finished."""
        handed = self._handed
        if not handed or offset < handed[0]:
            return
        self._done.add(offset)
        if offset == handed[0]:
            self._advance()
            self._pass_over()
        self._on_done()

    def done_run(self, offsets: Sequence[int]) -> None:
        """Note that a whole run of records, as it was handed out, is finished."""
        handed = self._handed
        if not handed:
            return
        if not self._done and len(offsets) == len(handed) and offsets[0] == handed[0]:
            # The usual case: one batch in flight, finished as a whole.
            handed.clear()
            self._handed_at.clear()
        else:
            lowest = handed[0]
            self._done.update(offset for offset in offsets if offset >= lowest)
            self._advance()
        self._pass_over()
        self._on_done()

    def close(self) -> None:
        """Forget everything: the partition was revoked."""
        self.owned = False
        self._handed.clear()
        self._done.clear()
        self._handed_at.clear()

    def _pass_over(self) -> None:
        """Advance past offsets without records, if all fetched records were handed out and are finished."""
        if not self._handed and self._after == self._queued_to and self._position > (self._after or 0):
            self._after = self._queued_to = self._position

    def _advance(self) -> None:
        handed, done = self._handed, self._done
        while handed and handed[0] in done:
            done.remove(handed.popleft())
        lowest = handed[0] if handed else None
        while self._handed_at and (lowest is None or self._handed_at[0][0] < lowest):
            self._handed_at.popleft()
