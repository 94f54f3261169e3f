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
from processors.roles.reply_batcher import Answers
from processors.roles.step_worker import Job, Lane, StepRunner
from processors.saga.events import Reply, Undone
from processors.saga.state import Action
from processors.saga_table import store as saga_store
from processors.simulation.engine.table import SimulatedTable
from processors.transport.progress import Progress
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
        await self._outbox.send(sending)
    batch.done()


async def acknowledges_before_it_saves(self: Coordinator, batch: Batch) -> None:
    batch.done()
    await handle(self, batch)


async def does_not_wait_for_kafka(self: Coordinator, batch: Batch) -> None:
    """Commands are sent, and nobody waits for their acknowledgement."""
    outbox = self._outbox
    under_way = []

    class Hopeful:
        async def send(self, items: Sequence[Any]) -> list[int]:
            under_way.append(asyncio.ensure_future(outbox.send(items)))
            return [0] * len(items)

    self._outbox = Hopeful()
    try:
        await handle(self, batch)
    finally:
        self._outbox = outbox


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


def cancels_without_an_answer(self: StepRunner, lane: Lane) -> None:
    """A later command cuts off the task, not only its attempt."""
    supersede(self, lane)
    if lane.running is not None and lane.running.command.action is Action.EXECUTE and lane.task is not None:
        lane.task.cancel()


def takes_surprises_for_failures(self: StepRunner, command: Any, reason: str, **how: Any) -> Reply:
    """Whatever went wrong, it had no effect."""
    return failed(self, command, reason, **{**how, "unknown": False})


async def acknowledges_before_it_answers(self: StepRunner, job: Job, lane: Lane) -> None:
    job.batch.done_one(job.record)
    await work(self, job, lane)


async def swallows_failed_answers(self: Answers) -> None:
    """An answer that was not delivered is forgotten, and its command acknowledged."""
    outbox = self._outbox

    class Hopeful:
        async def send(self, items: Sequence[Any]) -> list[int]:
            try:
                return await outbox.send(items)
            except DeliveryFailed:
                return [0] * len(items)

    self._outbox = Hopeful()
    try:
        await send(self)
    finally:
        self._outbox = outbox


def drops_what_is_superseded(self: StepRunner, lane: Lane) -> None:
    """What waits when a later command comes is dropped without an answer."""
    for job in lane.waiting:
        job.batch.done_one(job.record)
    self._queued -= len(lane.waiting)
    lane.waiting.clear()


def goes_on_without_an_answer(self: StepRunner, error: Exception) -> None:
    """A failed answer doesn't stop the worker."""


async def undoes_only_what_it_knows(self: Attempts, step: Any, call: Any, command: Any) -> Reply:
    """A compensation without the action's output does nothing."""
    if command.action is Action.COMPENSATE and call.output is None:
        return Undone(command.job_id, command.run, command.step, command.seq)
    return await perform(self, step, call, command)


supersede, failed = StepRunner._supersede, StepRunner._failed
work, send, perform = StepRunner._work, Answers._send, Attempts._perform

# --- the table and the transport --------------------------------------------------------------------------------------


async def heals_nothing(self: SimulatedTable) -> None:
    """What a zombie wrote last stays last: compaction keeps it."""


def last_write_wins(states: Any, memory: Any, changes: Any) -> None:
    for key, value, _ in changes:
        if value is None:
            states.pop(key, None)
        else:
            states[key] = value


def commits_what_was_handed_out(self: Progress) -> int | None:
    """The offset after the last record that was handed out is committed, done or not."""
    return self._after if self.open and self._after != self.committed else None


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
    Bug("runner: a cancelled task leaves no answer", swapped(StepRunner, "_supersede", cancels_without_an_answer)),
    Bug("runner: a surprise counts as no effect", swapped(StepRunner, "_failed", takes_surprises_for_failures)),
    Bug("runner: acknowledged before answered", swapped(StepRunner, "_work", acknowledges_before_it_answers)),
    Bug("runner: a failed answer doesn't stop the worker", swapped(StepRunner, "_stop_for", goes_on_without_an_answer)),
    Bug("runner: a failed answer is only logged", swapped(Answers, "_send", swallows_failed_answers)),
    Bug("runner: what is superseded is dropped", swapped(StepRunner, "_supersede", drops_what_is_superseded)),
    Bug("runner: undo only with the action's output", swapped(Attempts, "_perform", undoes_only_what_it_knows)),
    Bug("table: foreign writes are not healed", swapped(SimulatedTable, "look_for_foreign_writes", heals_nothing)),
    Bug("table: the last write wins on restore", swapped(saga_store, "fold", last_write_wins)),
    Bug(
        "transport: committed when handed out", swapped(Progress, "committable", property(commits_what_was_handed_out))
    ),
]
