"""What the steps of one run in memory work upon, and what stands of it in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from processors.errors import PipelineError
from processors.pipeline.pipeline import find_step, load_params
from processors.saga.plan import Plan, StepPlan
from processors.saga.state import Saga, idempotency_key
from processors.step import Host, Step
from processors.step_model import StepModel
from processors.testing.calls import connect
from processors.testing.memory import MemoryHost, MemoryRecord, standing
from processors.testing.site import MemorySite
from processors.testing.spending import paid_for, spent_on
from processors.testing.story import Standing
from processors.testing.warehouse import MemoryWarehouse

#: Makes a step in the place of the one that the pipeline names; a step class does.
StandIn = Callable[[str, Any, Host], Step]


class _DirectNetwork:
    """The network of step models, on which nothing goes wrong: faults are given to `run_pipeline`."""

    @asynccontextmanager
    async def call(self, what: str) -> AsyncIterator[None]:
        """Make one call."""
        yield


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything that a test puts in the place of what steps talk to."""

    host: MemoryHost
    site: MemorySite | None
    warehouse: MemoryWarehouse | None
    stand_ins: Mapping[str, StandIn]
    models: Mapping[str, type[StepModel]]

    def check(self, plan: Plan) -> None:
        """Refuse what no step of the plan could use. Raises PipelineError."""
        for name in (*self.stand_ins, *self.models):
            if plan.index(name) < 0:
                raise PipelineError(
                    f"pipeline {plan.pipeline} has no step {name!r} to replace; it has "
                    f"{', '.join(step.name for step in plan.steps)}"
                )
        if both := set(self.stand_ins) & set(self.models):
            raise PipelineError(f"step {', '.join(sorted(both))} has a stand-in and a model: give one of them")


class Surroundings:
    """The outside as one run uses it."""

    def __init__(self, outside: Outside) -> None:
        self.host = outside.host
        self._outside = outside
        self._models = {name: model(_DirectNetwork()) for name, model in outside.models.items()}
        self._began, self._spent = len(self.host.broker.history), spent_on(self.host)

    def make_step(self, planned: StepPlan, host: Host) -> Step:
        """Make a step of a plan, connected to what is in memory."""
        params, step_class = load_params(planned), find_step(planned.use)
        model = self._models.get(planned.name)
        if model is not None:
            step = model.step(step_class, planned.name, params, host)
        else:
            step = self._outside.stand_ins.get(planned.name, step_class)(planned.name, params, host)
        connect(step, self.host, self._outside.site, self._outside.warehouse)
        return step

    @property
    def published(self) -> tuple[MemoryRecord, ...]:
        """What the steps published since this run began; plans are the engine's own."""
        return tuple(record for record in self.host.broker.history[self._began :] if record.topic != "plans")

    @property
    def spent(self) -> Decimal:
        """By how much the spend ledger grew since this run began."""
        return spent_on(self.host) - self._spent

    def standing(self, saga: Saga) -> Standing:
        """Return what stands of what this run did."""
        ours = {(one.topic, one.partition, one.offset) for one in self.published}

        def live(topic: str) -> tuple[MemoryRecord, ...]:
            found = standing(self.host.records(topic))
            return tuple(one for one in found if (one.topic, one.partition, one.offset) in ours)

        warehouse = self._outside.warehouse
        outside = {
            name: model.standing(saga.job_id, saga.run, idempotency_key(saga.job_id, saga.run, name))
            for name, model in self._models.items()
        }
        return Standing(
            pages=live("pages"),
            records=live("records"),
            rows=() if warehouse is None else tuple(warehouse.rows_of(saga.job_id)),
            paid=tuple(paid_for(self.host, saga.job_id)),
            outside=outside,
        )

    def close(self) -> None:
        """Close the models."""
        for model in self._models.values():
            model.close()
