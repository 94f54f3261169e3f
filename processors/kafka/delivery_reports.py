"""Who serves librdkafka's reports: a thread while it is quiet, the loop under load, never both.

A thread has a report at once, without the loop asking. Under load it would want the interpreter while the loop has it, and
each would wait for the other at every single report; the loop then asks by itself, some hundred times a second.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from confluent_kafka import Producer

from processors.kafka.partition_queue import PartitionQueue

# How often the thread looks whether it is to end.
_LOOK_EVERY_S = 0.1
_FLUSH_WITHIN_S = 5.0
# As many records in flight say that there is load; the loop then asks as often as this, and batches grow meanwhile.
_MANY_RECORDS = 32
_ASK_EVERY_S = 0.006


class DeliveryReports:
    """Has `settle` called in the loop with the queues whose batch has all its reports."""

    def __init__(self, confluent: Producer, settle: Callable[[Sequence[PartitionQueue]], None]) -> None:
        #: Filled by PartitionQueue.report, in whichever thread serves the reports, and emptied in the same one.
        self.finished: list[PartitionQueue] = []
        self.under_way = 0
        self.confluent = confluent
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # The loop wants to ask; the thread has heard of it and stands still; it may go on.
        self._asks_here = False
        self._stands_still = threading.Event()
        self._goes_on = threading.Event()
        threading.Thread(target=self._serve, name="producer reports", daemon=True).start()

    async def stop(self) -> None:
        """Wait a few seconds for what is in flight; what has no report then gets none."""
        self._stopping.set()
        self._goes_on.set()
        await asyncio.shield(self._ended)

    def expect(self, records: int) -> None:
        """Note that records are handed to librdkafka; called before they are."""
        self.under_way += records
        if self.under_way > _MANY_RECORDS and not self._asks_here:
            self._asks_here = True
            self._goes_on.clear()
            self._stands_still.clear()
            self._loop.call_later(_ASK_EVERY_S, self._ask_here)

    def _pass_to_loop(self, queues: Sequence[PartitionQueue]) -> None:
        self.under_way -= sum(len(queue.in_flight) for queue in queues)
        self._settle(queues)

    def _ask_here(self) -> None:
        if self._stopping.is_set():
            return
        # Until then the thread may be in the midst of reports.
        if self._stands_still.is_set():
            self.confluent.poll(0)
            if self.finished:
                self._pass_to_loop(self._take_finished())
        if self.under_way:
            self._loop.call_later(_ASK_EVERY_S, self._ask_here)
        else:
            self._asks_here = False
            self._goes_on.set()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._asks_here:
                self._stands_still.set()
                self._goes_on.wait(_LOOK_EVERY_S)
                continue
            self._stands_still.clear()
            self.confluent.poll(_LOOK_EVERY_S)
            self._pass_on()
        self.confluent.flush(_FLUSH_WITHIN_S)
        self._pass_on()
        self.confluent.purge()
        self._in_loop(self._end)

    def _pass_on(self) -> None:
        if self.finished:
            self._in_loop(self._pass_to_loop, self._take_finished())

    def _take_finished(self) -> list[PartitionQueue]:
        queues = self.finished.copy()
        self.finished.clear()
        return queues

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        # A loop that was closed meanwhile has nobody who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
