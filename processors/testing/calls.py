"""One step, run as a worker runs it: opened, called with one command, and its answer told as the engine understands it.

async with open_step(ExportJson, {"folder": "/tmp/out"}) as step:
    done = await run_step(step, step_call(record={"title": "Lamp"}))
    undone = await run_step(step, done.call, action=Action.COMPENSATE)
assert done.outcome is Outcome.SUCCEEDED
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar, runtime_checkable

import httpx

from processors.clickhouse.client import Server, Warehouse
from processors.pipeline.pipeline import parse_params
from processors.saga.state import idempotency_key
from processors.step import Json, Step, StepCall, StepOutput, StepParams
from processors.testing.memory import MemoryHost
from processors.testing.site import MemorySite
from processors.testing.warehouse import MemoryWarehouse
from schemas.record import RecordSchema

OpenedStep = TypeVar("OpenedStep", bound=Step)


@runtime_checkable
class AsksForClient(Protocol):
    """A step that makes its HTTP client by its attribute `open_client`, as the built-in ones do."""

    open_client: Callable[..., httpx.AsyncClient]


@runtime_checkable
class AsksForWarehouse(Protocol):
    """A step that connects to ClickHouse by its attribute `open_warehouse`, as `load` does."""

    open_warehouse: Callable[[Server], Warehouse]


def step_call(
    step: str = "step",
    *,
    job_id: str = "job-1",
    run: int = 1,
    seq: int = 1,
    attempt: int = 1,
    pipeline: str = "test",
    url: str = "https://shop.example/1",
    address: str = "",
    timeout: timedelta = timedelta(seconds=30),
    payload: Mapping[str, Json] | None = None,
    record: Mapping[str, Json] | None = None,
    earlier: Mapping[str, StepOutput] | None = None,
    output: Mapping[str, Json] | None = None,
    record_schema: str = "product",
    confirms: bool = False,
) -> StepCall:
    """Return a command as a step sees it, with the idempotency key that the engine would give it.

    `url` names the job, `address` is what to request, by default the same. `earlier` holds what earlier steps returned,
    by name; `record` adds fields to theirs. `output` is what this step's own run returned, for a compensation.
    `record_schema` is the name of a bundled schema, a path ending in `.avsc`, a schema's JSON text, or empty.
    """
    before = dict(earlier or {})
    fields: dict[str, Json] = {}
    for one in before.values():
        fields.update(one.record)
    return StepCall(
        job_id=job_id,
        run=run,
        pipeline=pipeline,
        step=step,
        seq=seq,
        attempt=attempt,
        key=idempotency_key(job_id, run, step),
        url=url,
        address=address or url,
        timeout=timeout,
        payload=dict(payload or {}),
        record={**fields, **(record or {})},
        outputs={name: one.data for name, one in before.items()},
        output=output,
        record_schema=_schema_text(record_schema),
        confirms=confirms,
    )


@lru_cache(maxsize=32)
def _schema_text(schema: str) -> str:
    return schema if not schema or schema.lstrip().startswith("{") else RecordSchema.load(schema).text


@asynccontextmanager
async def open_step(
    step_class: type[OpenedStep],
    params: StepParams | Mapping[str, Any] | None = None,
    *,
    name: str = "step",
    host: MemoryHost | None = None,
    site: MemorySite | None = None,
    warehouse: MemoryWarehouse | None = None,
) -> AsyncIterator[OpenedStep]:
    """Make a step and open it; close it in the end.

    A mapping of `params` is read as `with:` of a pipeline is, with the same errors. Raises PipelineError for parameters
    that a pipeline can't have, and whatever the step's `open` raises.
    """
    typed = params if isinstance(params, StepParams) else parse_params(step_class, params or {}, f"step {name!r}")
    host = MemoryHost() if host is None else host
    step = step_class(name, typed, host)
    connect(step, host, site, warehouse)
    await step.open()
    try:
        yield step
    finally:
        await step.close()


def connect(step: Step, host: MemoryHost, site: MemorySite | None, warehouse: MemoryWarehouse | None) -> None:
    """Have a step that asks for them use a site and a warehouse in memory; without them it uses the real ones."""
    if site is not None and isinstance(step, AsksForClient):
        step.open_client = site.open_client
    if warehouse is not None and isinstance(step, AsksForWarehouse):
        step.open_warehouse = warehouse.open
        # Named, as in a worker, though nobody connects to it.
        host.settings.setdefault("CLICKHOUSE_URL", "http://clickhouse.invalid:8123")
