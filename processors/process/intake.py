"""The role `intake`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from processors.kafka.record import Batch
from processors.observability.tracing import Tracing
from processors.process.role import Process, Role
from processors.roles.intake import Intake, registry_reader


def _start(process: Process) -> None:
    settings = process.settings
    process.publish_plans()
    tracing = None if process.spans is None else Tracing(process.spans, settings.otel_sample)
    registry = registry_reader(settings)
    intake = Intake(
        process.producer, process.pipelines, process.catalogue, settings.default_pipeline, registry, tracing
    )

    async def accept(batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            await intake.handle(batch)

    process.add_agent(process.app(INTAKE), process.catalogue.urls, accept)


INTAKE = Role(
    name="intake",
    does="checks requests and turns them into submissions; publishes the plans of its pipelines",
    reads=("urls",),
    writes=("events", "plans", "dead-letters"),
    start=_start,
    settings=(
        "default_pipeline",
        "otel_sample",
        "schema_registry_url",
        "schema_registry_user",
        "schema_registry_password",
    ),
    scales_by="urls",
)
