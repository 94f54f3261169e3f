"""The role `coordinator`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from processors.kafka.credentials import kafka_client
from processors.kafka.record import Batch
from processors.process.role import STEP, Process, Role
from processors.roles.coordinator import Coordinator
from processors.transport.recovery import add_saga_table


def _start(process: Process) -> None:
    app = process.app(COORDINATOR)
    holder: list[Coordinator] = []
    table = add_saga_table(
        app,
        producer=process.producer,
        client=kafka_client(process.settings),
        topic=process.catalogue.sagas.name,
        on_restored=lambda partition, states: holder[0].restored(partition, states),
        on_revoked=lambda partition: holder[0].revoked(partition),
    )
    coordinator = Coordinator(table, process.producer, process.plans, process.catalogue, spans=process.spans)
    holder.append(coordinator)

    async def coordinate(batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            await coordinator.handle(batch)

    process.add_agent(app, process.catalogue.events, coordinate)
    app.task(coordinator.fire_timers)


COORDINATOR = Role(
    name="coordinator",
    does="computes the state of each saga from its events, sends commands to steps, fires timers",
    reads=("events", "sagas", "plans"),
    writes=(f"{STEP}.commands", "sagas", "events", "dead-letters"),
    start=_start,
    settings=("store", "standby_replicas"),
    scales_by="events",
    stateful=True,
    ready_when="its partitions are assigned and their states restored, its agent runs, commits succeed",
)
