"""The coordinator and a step's worker as production runs them, with Kafka taken away: what Python itself costs an event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from processors.kafka.producer import Outgoing
from processors.kafka.record import Batch, Part, Record
from processors.messages.wire import encode_command, encode_event
from processors.pipeline.plan_store import PLAN_KEY, Plans
from processors.roles.coordinator import Coordinator
from processors.roles.step_worker import StepWorker
from processors.saga.commands import StepCommand
from processors.saga.events import Event
from processors.saga.plan import Plan, encode_plan
from processors.step import Host
from processors.transport.offset_tracker import OffsetTracker
from topics.catalogue import Catalogue

_JOBS = 500


class Swallow:
    """Takes everything at once, and keeps nothing."""

    def __init__(self) -> None:
        self.taken = 0

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Say that Kafka has it."""
        self.taken += len(items)
        return [0] * len(items)


class DictTable:
    """A dictionary."""

    def __init__(self) -> None:
        self._states: dict[bytes, bytes] = {}

    def get(self, key: bytes, partition: int) -> bytes | None:
        """Return a state."""
        return self._states.get(key)

    async def save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Keep states."""
        for key, value in items:
            if value is not None:
                self._states[key] = value


class OnePlan:
    """A log that holds one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Refuse: nothing is published here."""
        raise NotImplementedError

    async def catch_up(self, to_offset: int | None = None) -> list[tuple[int, bytes, bytes | None]]:
        """Return the plan."""
        return [(0, PLAN_KEY + self._plan.hash.encode(), encode_plan(self._plan))]


def _batch(topic: str, values: Sequence[tuple[bytes, bytes]], first: int, now_ms: int) -> Batch:
    records = [Record(topic, 0, first + n, now_ms, key, value, ()) for n, (key, value) in enumerate(values)]
    tracker = OffsetTracker(lambda: None)
    offsets = [record.offset for record in records]
    tracker.hand_out(offsets, 0.0)
    return Batch(records, [Part(0, tracker, offsets)])


async def coordinator_us(plan: Plan, events: Sequence[Event]) -> float:
    """CPU of the coordinator in microseconds an event, over many sagas side by side."""
    plans = Plans(OnePlan(plan))
    await plans.refresh()
    coordinator = Coordinator(DictTable(), Swallow(), plans, Catalogue())
    coordinator.restored(0, ())
    now_ms = int(time.time() * 1000)
    run = now_ms // 1000
    used = 0.0
    offset = 1_000
    numbers: dict[int, int] = {}
    for event in events:
        values = []
        for job in range(_JOBS):
            job_id = f"S1-abc123-{job:07d}"
            # The first state's seq is its event's offset + 1, the next ones count on.
            seq = numbers.get(job, offset + job + 1)
            values.append((job_id.encode(), encode_event(_of(event, job_id, seq, run))))
            numbers[job] = seq + 1 if hasattr(event, "seq") else seq
        batch = _batch("scrape.events", values, offset, now_ms)
        offset += _JOBS
        began = time.process_time()
        await coordinator.handle(batch)
        used += time.process_time() - began
    return used / _JOBS / len(events) * 1e6


def _of(event: Event, job_id: str, seq: int, run: int) -> Event:
    changes: dict[str, object] = {"job_id": job_id}
    if hasattr(event, "seq"):
        changes |= {"seq": seq, "run": run}
    return msgspec.structs.replace(event, **changes)


async def runner_us(plan: Plan, command: StepCommand, host: Host) -> float:
    """CPU of a step's worker in microseconds a command, the step's own nothing included."""
    plans = Plans(OnePlan(plan))
    await plans.refresh()
    producer = Swallow()
    runner = StepWorker(command.step, host, producer, plans, Catalogue())
    soon = int(time.time() * 1000) + 600_000
    values = []
    for job in range(_JOBS):
        one = msgspec.structs.replace(command, job_id=f"S1-abc123-{job:07d}", expires_ms=soon)
        values.append((one.job_id.encode(), encode_command(one)))
    batch = _batch("scrape.commands", values, 0, soon)

    async def batches() -> AsyncIterator[Batch]:
        yield batch
        while producer.taken < 2 * _JOBS:
            await asyncio.sleep(0)

    began = time.process_time()
    await runner.serve(batches())
    used = time.process_time() - began
    await runner.close()
    return used / _JOBS * 1e6
