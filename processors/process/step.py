"""The roles of steps: one a step name, for all plans that have a step of that name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from processors.kafka.credentials import kafka_security
from processors.process.host import EngineHost
from processors.process.role import STEP, Process, Role
from processors.roles.step_worker import StepWorker

#: What Role.kind says of them.
KIND = "step"


def step_role(step: str) -> Role:
    """Return the role that runs a step's commands."""

    def start(process: Process) -> None:
        settings = process.settings
        host = EngineHost(step, settings, kafka_security(settings), process.catalogue, process.producer)
        runner = StepWorker(
            step,
            host,
            process.producer,
            process.plans,
            process.catalogue,
            max_in_flight=settings.max_in_flight,
            spans=process.spans,
        )
        process.add_agent(process.app(role), process.catalogue.commands(step), runner.serve)
        process.add_resource(_closing(runner, host))

    role = Role(
        name=step,
        does="runs, compensates and confirms the commands of one step",
        reads=(f"{STEP}.commands", "plans", "pages", "spend"),
        writes=("events", f"{STEP}.results", "pages", "records", "spend", "dead-letters"),
        start=start,
        settings=(
            "max_in_flight",
            "parse_processes",
            "allow_addresses",
            "secrets_dir",
            "clickhouse_url",
            "clickhouse_user",
            "clickhouse_password",
            "clickhouse_database",
            "schema_registry_url",
            "schema_registry_user",
            "schema_registry_password",
        ),
        scales_by=f"{STEP}.commands",
        kind=KIND,
        calls_outside=True,
    )
    return role


@asynccontextmanager
async def _closing(runner: StepWorker, host: EngineHost) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await runner.close()
        await host.close()
