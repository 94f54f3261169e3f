"""Restores the partitions that a process owns, and updates its standbys, in bulk.

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
    """Return freed memory to the system, if the C library can (glibc). Takes less than a millisecond."""
    if sys.platform == "linux":
        # musl has no malloc_trim.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class TableRecovery:
    """Reads the log of a saga table; the caller, who knows about rebalances, starts and stops it."""

    def __init__(self, table: SagaTable) -> None:
        self._table = table
        self._restored = BulkRead()
        self._followed = BulkRead()

    def stop(self) -> None:
        """Stop the current read, because its result is not needed any more. Does not wait."""
        self._restored.stop()
        self._followed.stop()

    async def interrupt(self) -> None:
        """Return when no read into the table is running."""
        await self._restored.interrupt()
        await self._followed.interrupt()

    async def restore(self, partitions: Collection[int], rebalancing: Callable[[], bool]) -> None:
        """Read the owned partitions to their end, and announce them.

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
                # Announcing takes as long as the walk over the states; meanwhile heartbeats must be sent.
                await asyncio.sleep(0)
        # Up to about ten megabytes of records that were read ahead.
        malloc_trim()
        took = monotonic() - began
        metrics.recovery_seconds.set(took)
        _log.info("Saga table restored: %d partitions, %d sagas, %.1f s", len(partitions), len(self._table), took)

    async def _read(self, partitions: Collection[int], rebalancing: Callable[[], bool]) -> threading.Event:
        await self._restored.interrupt()
        if rebalancing():
            # A rebalance began during this recovery, and its partitions may be revoked.
            raise ReadInterrupted("A rebalance began.")
        return await self._restored.run(self._table, partitions)

    async def follow(self, partitions: Collection[int], wanted: Callable[[], bool]) -> None:
        """Read new records of standbys, if they are still standbys when they are free. ConfigurationError as restore()."""
        try:
            async with await self._table.restoring(partitions):
                # A save from the time when they were owned may have kept them locked until the next rebalance.
                if wanted():
                    stop = await self._followed.run(self._table, partitions)
                    if not stop.is_set():
                        self._table.trim(partitions)
        except ReadInterrupted:
            # Stopped by a rebalance. The records that were read are kept.
            return
        except ReadFailed as error:
            # Kafka is down. Reading later loses nothing: a takeover reads the missing records.
            _log.warning("Cannot follow standbys: %s", error)
