"""Restores the partitions that a process owns, and keeps its standbys warm, in bulk.

Records are read by a connection of their own, outside of any consumer group: 60 times as fast as one by one through a
stream. A rebalance interrupts the reading, and what was read so far counts.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
from collections.abc import Callable, Collection
from time import monotonic

from processors.observability import metrics
from processors.saga_table.bulk_read import BulkRead
from processors.saga_table.changelog_reader import ReadFailed, ReadInterrupted
from processors.saga_table.table import SagaTable

_log = logging.getLogger(__name__)


def malloc_trim() -> None:
    """Return what was freed to the system, where the C library can: glibc. Costs well under a millisecond."""
    if sys.platform == "linux":
        # musl has none.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class TableRecovery:
    """Reads a saga table's log; whoever knows of rebalances says when to begin and when to stop."""

    def __init__(self, table: SagaTable) -> None:
        self._table = table
        self._restored = BulkRead()
        self._followed = BulkRead()

    def stop(self) -> None:
        """Say that what is being read isn't worth anything any more; doesn't wait."""
        self._restored.stop()
        self._followed.stop()

    async def interrupt(self) -> None:
        """Return once nothing reads into the table any more."""
        await self._restored.interrupt()
        await self._followed.interrupt()

    async def restore(self, partitions: Collection[int], rebalancing: Callable[[], bool]) -> None:
        """Read what is owned to its end, and announce it.

        Raises ReadInterrupted or PartitionNotHeld when a rebalance comes in between, ReadFailed, DeliveryFailed, and
        ConfigurationError if the table is ahead of its log.
        """
        began = monotonic()
        async with await self._table.restoring(partitions):
            stop = await self._read(partitions, rebalancing)
            for partition in sorted(partitions):
                if stop.is_set():
                    raise ReadInterrupted("A rebalance began.")
                await self._table.announce(partition)
                # Announcing takes as long as the walk over the states, and heartbeats have to get through.
                await asyncio.sleep(0)
        # Up to some ten megabytes, by which the reading was ahead of the table.
        malloc_trim()
        took = monotonic() - began
        metrics.recovery_seconds.set(took)
        _log.info("Saga table restored: %d partitions, %d sagas, %.1f s", len(partitions), len(self._table), took)

    async def _read(self, partitions: Collection[int], rebalancing: Callable[[], bool]) -> threading.Event:
        await self._restored.interrupt()
        if rebalancing():
            # This recovery was on its way when the rebalance began, and its partitions may be gone.
            raise ReadInterrupted("A rebalance began.")
        return await self._restored.run(self._table, partitions)

    async def follow(self, partitions: Collection[int], wanted: Callable[[], bool]) -> None:
        """Read what was written to standbys, if that is still wanted once they are free. ConfigurationError as restore()."""
        try:
            async with await self._table.restoring(partitions):
                # A save of the time when they were owned may have kept them locked until the next rebalance.
                if wanted():
                    stop = await self._followed.run(self._table, partitions)
                    if not stop.is_set():
                        self._table.trim(partitions)
        except ReadInterrupted:
            # By a rebalance. What was read so far counts.
            return
        except ReadFailed as error:
            # Kafka is away. Nothing is lost by reading later: a takeover reads what is missing.
            _log.warning("Cannot follow standbys: %s", error)
