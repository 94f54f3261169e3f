"""The fetched records of one topic that wait for their agent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from time import monotonic
from typing import Any

from processors.kafka.record import Batch, Part, Record
from processors.transport.offset_tracker import OffsetTracker


class RecordQueue:
    """A queue of runs of records, one partition each, that never makes its reader wait for more than is there."""

    def __init__(self) -> None:
        self.queued = 0
        # ConsumerRecords of aiokafka; converted to Records only when they are handed out.
        self._runs: deque[tuple[OffsetTracker, Sequence[Any]]] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def put(self, tracker: OffsetTracker, fetched: Sequence[Any]) -> None:
        """Queue records of one partition, in order."""
        self._runs.append((tracker, fetched))
        tracker.queue(fetched[-1].offset)
        self.queued += len(fetched)
        self._wake()

    def drop(self) -> None:
        """Drop the queued records: they were never handed out, so they will be fetched again."""
        self._runs.clear()
        self.queued = 0

    def close(self) -> None:
        """Stop handing out records: agents end after their current batch."""
        self.drop()
        self._closed = True
        self._wake()

    async def batches(self, max_records: int) -> AsyncIterator[Batch]:
        """Yield the waiting records, at least one, at most `max_records`, until the queue is closed."""
        while (batch := await self.take(max_records)) is not None:
            yield batch

    async def take(self, max_records: int) -> Batch | None:
        """Return the next batch as soon as there is a record; None when the queue is closed."""
        while not self._runs:
            if self._closed:
                return None
            reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader
        return self._take(max_records)

    def _take(self, max_records: int) -> Batch:
        taken: dict[OffsetTracker, list[Record]] = {}
        room = max_records
        while self._runs and room:
            tracker, fetched = self._runs.popleft()
            if len(fetched) > room:
                self._runs.appendleft((tracker, fetched[room:]))
                fetched = fetched[:room]
            room -= len(fetched)
            records = [
                Record(
                    r.topic,
                    r.partition,
                    r.offset,
                    r.timestamp,
                    r.key,
                    r.value,
                    r.headers,
                )
                for r in fetched
            ]
            if tracker in taken:
                taken[tracker] += records
            else:
                taken[tracker] = records
        self.queued -= max_records - room
        now = monotonic()
        parts = []
        for tracker, records in taken.items():
            offsets = [record.offset for record in records]
            tracker.hand_out(offsets, now)
            parts.append(Part(records[0].partition, tracker, offsets))
        runs = list(taken.values())
        return Batch(runs[0] if len(runs) == 1 else list(chain.from_iterable(runs)), parts)

    def _wake(self) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
