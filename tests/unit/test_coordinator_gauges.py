"""What the coordinator's gauges say is what its table holds: after events, a restore, a revocation, forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from processors.kafka.producer import Outgoing
from processors.kafka.record import Batch, Part, Record
from processors.messages.wire import decode_saga, encode_event
from processors.pipeline.plan_store import Plans
from processors.roles.coordinator import Coordinator
from processors.saga.events import Compensated, Event, Failed, Submitted, Succeeded, TimedOut
from processors.saga.plan import Plan, encode_plan
from processors.saga.state import Origin, Phase
from processors.testing import MemoryHost
from tests.sagas import RUN, START_MS, plan
from topics.catalogue import Catalogue

PLAN = plan("ab")


class Nowhere:
    """A producer that Kafka acknowledges at once."""

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Acknowledge."""
        return [0] * len(items)


class MemoryTable:
    """The table of one process; `gate` holds a save back between its acknowledgement and its end."""

    def __init__(self) -> None:
        self.states: dict[int, dict[bytes, bytes]] = {}
        self.gates: dict[int, asyncio.Event] = {}

    def get(self, key: bytes, partition: int) -> bytes | None:
        """Return a state."""
        return self.states.get(partition, {}).get(key)

    async def save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Save states; while the partition's gate is closed, nothing is saved."""
        if partition in self.gates:
            await self.gates[partition].wait()
        states = self.states.setdefault(partition, {})
        for key, value in items:
            if value is None:
                states.pop(key, None)
            else:
                states[key] = value


class Ledger:
    """Acknowledges in vain."""

    owned = True

    def inherited(self, offset: int) -> bool:
        """Nothing is."""
        return False

    def done(self, offset: int) -> None:
        """Nothing."""

    def done_run(self, offsets: Sequence[int]) -> None:
        """Nothing."""


class Engine:
    """A coordinator with its inbox."""

    def __init__(self, coordinator: Coordinator, table: MemoryTable) -> None:
        self.coordinator, self.table = coordinator, table
        self._offset = 0

    async def on(self, *events: Event, partition: int = 0, at_ms: int = START_MS) -> None:
        """Let the coordinator handle events as one batch."""
        await self.coordinator.handle(self.batch(*((partition, event) for event in events), at_ms=at_ms))

    def batch(self, *events: tuple[int, Event], at_ms: int = START_MS) -> Batch:
        """Return events of some partitions as one batch."""
        records = []
        for partition, event in events:
            self._offset += 1
            records.append(Record("e", partition, self._offset, at_ms, event.job_id.encode(), encode_event(event), ()))
        offsets: dict[int, list[int]] = {record.partition: [] for record in records}
        for record in records:
            offsets[record.partition].append(record.offset)
        return Batch(records, [Part(partition, Ledger(), found) for partition, found in offsets.items()])

    def restore(self, partition: int) -> None:
        """Announce a partition as the table would."""
        self.coordinator.restored(partition, list(self.table.states.get(partition, {}).items()))

    def seq(self, job_id: str, partition: int = 0) -> int:
        """Return the seq of a job's state."""
        value = self.table.states[partition][job_id.encode()]
        return decode_saga(value, lambda _: PLAN).seq

    def walked(self, *partitions: int) -> dict[str, int]:
        """Return how many sagas of some partitions the table holds in each phase."""
        found = dict.fromkeys((phase.value for phase in Phase if phase is not Phase.NEW), 0)
        for partition in partitions:
            for value in self.table.states.get(partition, {}).values():
                found[decode_saga(value, lambda _: PLAN).phase.value] += 1
        return found


def shown() -> dict[str, int]:
    """Return what /metrics says of sagas by phase."""
    phases = [phase.value for phase in Phase if phase is not Phase.NEW]
    return {phase: int(REGISTRY.get_sample_value("scrapesaga_sagas", {"phase": phase}) or 0) for phase in phases}


def value(name: str, **labels: str) -> float:
    """Return a sample of /metrics."""
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, name
    return found


@pytest.fixture
def clock() -> list[float]:
    """The time, in seconds."""
    return [START_MS / 1000]


@pytest.fixture
async def engine(clock: list[float]) -> Engine:
    """A coordinator that has just been given partitions 0 and 1, both empty."""
    host = MemoryHost()
    await host.log("plans").append(b"plan:" + PLAN.hash.encode(), encode_plan(PLAN))
    plans = Plans(host.log("plans"))
    await plans.refresh()
    table = MemoryTable()
    engine = Engine(Coordinator(table, Nowhere(), plans, Catalogue(steps=("a", "b")), clock=lambda: clock[0]), table)
    engine.restore(0)
    engine.restore(1)
    return engine


def submitted(job_id: str, of: Plan = PLAN) -> Submitted:
    """Return a submission."""
    return Submitted(job_id, of, "http://x/", b"", "c", Origin(0, 1))


async def test_sagas_are_counted_from_their_start_until_they_are_forgotten(engine: Engine) -> None:
    """Every transition moves a saga from one gauge to another; a forgotten one is in none."""
    await engine.on(submitted("done"), submitted("undone"))
    assert shown() == engine.walked(0, 1) and shown()["RUNNING"] == 2
    await engine.on(
        Succeeded("done", RUN, "a", engine.seq("done")), Succeeded("undone", RUN, "a", engine.seq("undone"))
    )
    await engine.on(
        Succeeded("done", RUN, "b", engine.seq("done")), Failed("undone", RUN, "b", engine.seq("undone"), "no")
    )
    assert shown() == engine.walked(0, 1)
    assert (shown()["COMPLETED"], shown()["COMPENSATING"]) == (1, 1)
    await engine.on(Compensated("undone", RUN, "a", engine.seq("undone")))
    assert shown() == engine.walked(0, 1) and shown()["COMPENSATED"] == 1
    expired = START_MS + PLAN.retention_ms + 1
    await engine.on(TimedOut("done", engine.seq("done")), TimedOut("undone", engine.seq("undone")), at_ms=expired)
    assert engine.table.states[0] == {} and sum(shown().values()) == 0


async def test_a_restart_counts_what_it_restores(engine: Engine) -> None:
    """A new process shows the restored sagas, and takes their later moves from there: never below zero."""
    await engine.on(submitted("old"), submitted("new"))
    heir = Engine(
        Coordinator(engine.table, Nowhere(), engine.coordinator._plans, Catalogue(steps=("a", "b"))), engine.table
    )
    heir._offset = engine._offset
    assert sum(shown().values()) == 0
    heir.restore(0)
    assert shown() == heir.walked(0) and shown()["RUNNING"] == 2
    await heir.on(Failed("old", RUN, "a", heir.seq("old"), "no"))
    assert shown() == heir.walked(0) and shown()["COMPENSATED"] == 1


async def test_a_revoked_partition_is_no_longer_counted(engine: Engine) -> None:
    """The sagas of a partition that went to another process are shown by that one alone, and no timer of theirs stays."""
    await engine.on(submitted("a"))
    await engine.on(submitted("b"), partition=1)
    engine.coordinator.revoked(1)
    assert shown() == engine.walked(0) and shown()["RUNNING"] == 1
    assert value("scrapesaga_armed_timers") == 1


async def test_a_partition_that_is_restored_while_another_is_saved_is_not_counted_twice(engine: Engine) -> None:
    """A rebalance between the saves of one batch rebuilds from a table that has the first one's states already."""
    batch = engine.batch((0, submitted("a")), (1, submitted("b")))
    gate = engine.table.gates[1] = asyncio.Event()
    handling = asyncio.create_task(engine.coordinator.handle(batch))
    for _ in range(100):
        if engine.table.states.get(0):
            break
        await asyncio.sleep(0)
    engine.restore(0)
    gate.set()
    await handling
    assert shown() == engine.walked(0, 1) and shown()["RUNNING"] == 2


async def test_a_partition_that_goes_while_it_is_saved_is_not_counted(engine: Engine) -> None:
    """What was saved for a partition that was revoked meanwhile belongs to its next owner."""
    gate = engine.table.gates[1] = asyncio.Event()
    handling = asyncio.create_task(engine.coordinator.handle(engine.batch((1, submitted("b")))))
    await asyncio.sleep(0)
    engine.coordinator.revoked(1)
    gate.set()
    await handling
    assert sum(shown().values()) == 0 and value("scrapesaga_armed_timers") == 0


async def test_the_oldest_unfinished_saga_has_its_age_shown(engine: Engine, clock: list[float]) -> None:
    """The age is that of the run that began first and has not ended; 0 once there is none."""
    clock[0] = START_MS / 1000 + 90
    await engine.on(submitted("first"))
    await engine.on(submitted("second"), at_ms=START_MS + 60_000)
    assert value("scrapesaga_oldest_unfinished_seconds", phase="RUNNING") == 90
    await engine.on(Failed("first", RUN, "a", engine.seq("first"), "no"), at_ms=START_MS + 60_000)
    assert value("scrapesaga_oldest_unfinished_seconds", phase="RUNNING") == 30
    await engine.on(Failed("second", RUN + 60, "a", engine.seq("second"), "no"), at_ms=START_MS + 60_000)
    assert value("scrapesaga_oldest_unfinished_seconds", phase="RUNNING") == 0


async def test_a_late_effect_is_counted_for_its_own_step(engine: Engine) -> None:
    """A success of b that arrives while a is being undone counts for b."""
    before = REGISTRY.get_sample_value("scrapesaga_late_effects_total", {"step": "b"}) or 0
    await engine.on(submitted("j"))
    await engine.on(Succeeded("j", RUN, "a", engine.seq("j")))
    late = engine.seq("j")
    await engine.on(Failed("j", RUN, "b", late, "no"))
    await engine.on(Succeeded("j", RUN, "b", late))
    assert value("scrapesaga_late_effects_total", step="b") == before + 1
