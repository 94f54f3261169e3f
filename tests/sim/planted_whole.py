"""Bugs planted in the runner, in the coordinator and in what is around them, each to be found by whole histories.

Each is put into the production class itself, so that what runs is the engine with that one bug.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from processors.errors import DeliveryFailed
from processors.kafka.record import Batch
from processors.roles.attempts import Attempts
from processors.roles.coordinator import Coordinator
from processors.roles.failures import Failure
from processors.roles.reply_batcher import ReplyBatcher
from processors.roles.step_worker import JobQueue, ReceivedCommand, StepWorker
from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, Reply
from processors.saga.state import Action
from processors.saga_table import store as saga_store
from processors.simulation.engine.table import SimulatedTable
from processors.transport.offset_tracker import OffsetTracker
from tests.sim.planting import Bug, both, swapped

# --- the coordinator --------------------------------------------------------------------------------------------------


async def saves_before_it_sends(self: Coordinator, batch: Batch) -> None:
    sending: list[Any] = []
    saving: dict[int, list[Any]] = {}
    changed: dict[int, Any] = {}
    for record in batch.records:
        await self._apply(record, sending, saving, changed)
    await asyncio.gather(*(self._save(p, items, changed[p]) for p, items in saving.items()))
    if sending:
        await self._producer.send(sending)
    batch.done()


async def acknowledges_before_it_saves(self: Coordinator, batch: Batch) -> None:
    batch.done()
    await handle(self, batch)


async def does_not_wait_for_kafka(self: Coordinator, batch: Batch) -> None:
    """Commands are sent, and nobody waits for their acknowledgement."""
    producer = self._producer
    under_way = []

    class Hopeful:
        async def send(self, items: Sequence[Any]) -> list[int]:
            under_way.append(asyncio.ensure_future(producer.send(items)))
            return [0] * len(items)

    self._producer = Hopeful()
    try:
        await handle(self, batch)
    finally:
        self._producer = producer


def keeps_its_cache(self: Coordinator, partition: int, states: Any = ()) -> None:
    cache = self._cache.copy()
    if states:
        restored(self, partition, states)
    else:
        revoked(self, partition)
    self._cache.update(cache)


def rebuilds_nothing_on_restore(self: Coordinator, partition: int, states: Any) -> None:
    """Of restored states neither the timers nor the counts are rebuilt."""
    restored(self, partition, ())


async def swallows_failed_sends(self: Coordinator, batch: Batch) -> None:
    """A failed delivery is logged, and the batch acknowledged."""
    try:
        await handle(self, batch)
    except DeliveryFailed:
        batch.done()


async def loses_what_it_cannot_decode(self: Coordinator, *arguments: Any) -> None:
    """One record that nobody can read stops the whole partition."""
    record = arguments[0]
    await self._decode(record)
    await apply(self, *arguments)


handle, restored, revoked = Coordinator.handle, Coordinator.restored, Coordinator.revoked
apply = Coordinator._apply

# --- the runner -------------------------------------------------------------------------------------------------------


def cancels_without_an_answer(self: StepWorker, queue: JobQueue) -> None:
    """A later command cuts off the task, not only its attempt."""
    supersede(self, queue)
    if queue.running is not None and queue.running.command.action is Action.EXECUTE and queue.task is not None:
        queue.task.cancel()


def takes_unexpected_errors_for_failures(self: StepWorker, command: StepCommand, failure: Failure) -> Reply:
    """Whatever went wrong, it had no effect."""
    return failed(self, command, failure._replace(outcome_unknown=False))


async def acknowledges_before_it_answers(self: StepWorker, received: ReceivedCommand, queue: JobQueue) -> None:
    received.batch.done_one(received.record)
    await work(self, received, queue)


async def swallows_failed_replies(self: ReplyBatcher) -> None:
    """An answer that was not delivered is forgotten, and its command acknowledged."""
    producer = self._producer

    class Hopeful:
        async def send(self, items: Sequence[Any]) -> list[int]:
            try:
                return await producer.send(items)
            except DeliveryFailed:
                return [0] * len(items)

    self._producer = Hopeful()
    try:
        await send(self)
    finally:
        self._producer = producer


def drops_what_is_superseded(self: StepWorker, queue: JobQueue) -> None:
    """What waits when a later command comes is dropped without an answer."""
    for received in queue.waiting:
        received.batch.done_one(received.record)
    self._queued -= len(queue.waiting)
    queue.waiting.clear()


def goes_on_without_an_answer(self: StepWorker, error: Exception) -> None:
    """A failed answer doesn't stop the worker."""


async def undoes_only_what_it_knows(self: Attempts, step: Any, call: Any, command: Any) -> Reply:
    """A compensation without the action's output does nothing."""
    if command.action is Action.COMPENSATE and call.output is None:
        return Compensated(command.job_id, command.run, command.step, command.seq)
    return await perform(self, step, call, command)


supersede, failed = StepWorker._supersede, StepWorker._failed
work, send, perform = StepWorker._work, ReplyBatcher._send, Attempts._perform

# --- the table and the transport --------------------------------------------------------------------------------------


async def heals_nothing(self: SimulatedTable) -> None:
    """What a zombie wrote last stays last: compaction keeps it."""


def last_write_wins(states: Any, memory: Any, changes: Any) -> None:
    for key, value, _ in changes:
        if value is None:
            states.pop(key, None)
        else:
            states[key] = value


def commits_what_was_handed_out(self: OffsetTracker) -> int | None:
    """The offset after the last record that was handed out is committed, done or not."""
    return self._after if self.owned and self._after != self.committed else None


IN_THE_ENGINE = [
    Bug("coordinator: saved before sent", swapped(Coordinator, "handle", saves_before_it_sends)),
    Bug("coordinator: acknowledged before saved", swapped(Coordinator, "handle", acknowledges_before_it_saves)),
    Bug("coordinator: a send is not waited for", swapped(Coordinator, "handle", does_not_wait_for_kafka)),
    Bug("coordinator: a failed send is only logged", swapped(Coordinator, "handle", swallows_failed_sends)),
    Bug(
        "coordinator: an unreadable record stops the partition",
        swapped(Coordinator, "_apply", loses_what_it_cannot_decode),
    ),
    Bug(
        "coordinator: the cache outlives the partition",
        both(swapped(Coordinator, "restored", keeps_its_cache), swapped(Coordinator, "revoked", keeps_its_cache)),
    ),
    Bug("coordinator: nothing is rebuilt on restore", swapped(Coordinator, "restored", rebuilds_nothing_on_restore)),
    Bug("runner: a cancelled task leaves no answer", swapped(StepWorker, "_supersede", cancels_without_an_answer)),
    Bug(
        "runner: an unexpected error counts as no effect",
        swapped(StepWorker, "_failed", takes_unexpected_errors_for_failures),
    ),
    Bug("runner: acknowledged before answered", swapped(StepWorker, "_work", acknowledges_before_it_answers)),
    Bug("runner: a failed answer doesn't stop the worker", swapped(StepWorker, "_stop_for", goes_on_without_an_answer)),
    Bug("runner: a failed answer is only logged", swapped(ReplyBatcher, "_send", swallows_failed_replies)),
    Bug("runner: what is superseded is dropped", swapped(StepWorker, "_supersede", drops_what_is_superseded)),
    Bug("runner: undo only with the action's output", swapped(Attempts, "_perform", undoes_only_what_it_knows)),
    Bug("table: foreign writes are not healed", swapped(SimulatedTable, "fence_other_writers", heals_nothing)),
    Bug("table: the last write wins on restore", swapped(saga_store, "fold", last_write_wins)),
    Bug(
        "transport: committed when handed out",
        swapped(OffsetTracker, "committable", property(commits_what_was_handed_out)),
    ),
]
