"""Rows of many jobs in one insert: at once when idle, together under load, and a bad row fails alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Batches(Generic[Row]):
    """Collects rows and inserts them, one insert at a time.

    The first row after a pause goes at once. Rows that come within `wait` of the last insert go together when that time
    is over, or as soon as there are `rows` of them: ClickHouse makes a part of each insert, and refuses more when it has
    too many. `insert` takes a list of rows; an error of it for which `divisible` holds is bisected to find the bad rows.
    """

    def __init__(
        self,
        insert: Callable[[Sequence[Row]], Awaitable[None]],
        *,
        rows: int,
        wait: timedelta,
        divisible: Callable[[Exception], bool],
    ) -> None:
        self._insert = insert
        self._rows = rows
        self._wait = wait.total_seconds()
        self._divisible = divisible
        self._waiting: deque[tuple[Row, asyncio.Future[None]]] = deque()
        self._full = asyncio.Event()
        self._closing = False
        self._last_start = float("-inf")
        self._work: asyncio.Task[None] | None = None

    async def add(self, row: Row) -> None:
        """Return once the row has been inserted; raise what its insert raised.

        A caller that is cancelled takes its row out, unless the insert is already under way.
        """
        inserted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, inserted))
        if len(self._waiting) >= self._rows:
            self._full.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._insert_waiting())
        await inserted

    async def drain(self) -> None:
        """Insert what waits, without further delay; for the end of a worker."""
        self._closing = True
        self._full.set()
        if self._work is not None:
            await self._work

    async def _insert_waiting(self) -> None:
        while self._waiting:
            await self._good_moment()
            self._last_start = asyncio.get_running_loop().time()
            batch = self._next_batch()
            try:
                await self._settle(batch)
            finally:
                # Only true if this task is cancelled: nobody may wait for an insert that no longer runs.
                for _, inserted in batch:
                    inserted.cancel()

    async def _good_moment(self) -> None:
        if self._closing or len(self._waiting) >= self._rows:
            return
        pause = self._last_start + self._wait - asyncio.get_running_loop().time()
        if pause > 0:
            self._full.clear()
            try:
                await asyncio.wait_for(self._full.wait(), pause)
            except TimeoutError:
                return

    def _next_batch(self) -> list[tuple[Row, asyncio.Future[None]]]:
        batch: list[tuple[Row, asyncio.Future[None]]] = []
        while self._waiting and len(batch) < self._rows:
            row, inserted = self._waiting.popleft()
            if not inserted.done():
                batch.append((row, inserted))
        return batch

    async def _settle(self, batch: list[tuple[Row, asyncio.Future[None]]]) -> None:
        if not batch:
            return
        try:
            await self._insert([row for row, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for these rows are told
            if len(batch) > 1 and self._divisible(error):
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            for _, inserted in batch:
                if not inserted.done():
                    inserted.set_exception(error)
        else:
            for _, inserted in batch:
                if not inserted.done():
                    inserted.set_result(None)
