"""Reads partitions of the saga table up to the end of the log, in a thread that can be interrupted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection

from processors.errors import ConfigurationError
from processors.saga_table.changelog_reader import ChangelogReader
from processors.saga_table.table import SagaTable


class BulkRead:
    """Runs at most one read into a saga table at a time."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._reading: asyncio.Future[None] | None = None

    async def run(self, table: SagaTable, partitions: Collection[int]) -> threading.Event:
        """Read to the end, while table.restoring(); the result is set once that isn't worth anything any more.

        Raises ReadInterrupted, ReadFailed, and ConfigurationError if the table is ahead of its changelog.
        """
        stop = self._stop = threading.Event()
        self._reading = asyncio.ensure_future(asyncio.to_thread(_read, table, partitions, stop))
        try:
            await asyncio.shield(self._reading)
        except asyncio.CancelledError:
            # Otherwise the thread would write into partitions that were revoked.
            await self.interrupt()
            raise
        return stop

    def stop(self) -> None:
        """Stop the read, because its result is not needed any more. Does not wait."""
        self._stop.set()

    async def interrupt(self) -> None:
        """Return when no read is running."""
        self.stop()
        if self._reading is not None:
            await asyncio.wait([self._reading])


def _read(table: SagaTable, partitions: Collection[int], stop: threading.Event) -> None:
    with ChangelogReader(table.topic, table.client) as reader:
        starts = {partition: _start(table, reader, partition) for partition in partitions}
        reader.read_to_end(starts, table.absorb, stop)


def _start(table: SagaTable, reader: ChangelogReader, partition: int) -> int:
    first, end = reader.bounds(partition)
    known = table.known_offset(partition)
    if known is None:
        return first
    if known >= end:
        raise ConfigurationError(
            f"The table holds {table.topic} [{partition}] up to offset {known}, but the topic ends at "
            f"{end}: it was created again, or its end was lost. Delete the folder {table.store.folder} and restart."
        )
    return max(first, known + 1)
