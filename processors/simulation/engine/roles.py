"""The production coordinator and step runner, each with what its process gives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from processors.kafka.record import Batch
from processors.pipeline.plan_store import Plans
from processors.roles.attempts import MakeStep
from processors.roles.coordinator import Coordinator
from processors.roles.step_worker import StepWorker
from processors.simulation.engine.consumer_group import Member
from processors.simulation.engine.kafka import SimulatedHost, SimulatedLog
from processors.simulation.engine.table import SimulatedTable
from topics.catalogue import Catalogue

# As in production, where it is every 10 s of real time.
LOOK_AT_ENDS_S = 10.0
#: A clock that jumps is noticed this fast; in production it is 0.25 s, which would cost most of the simulation's time.
LOOK_EVERY = timedelta(seconds=2)


class CoordinatorRole:
    """A coordinator process."""

    def __init__(self, member: Member, catalogue: Catalogue) -> None:
        self._plans = Plans(SimulatedLog(catalogue.plans.name, member.environment.broker, member.wire))
        self.table = SimulatedTable(
            catalogue.sagas.name,
            member.environment.broker,
            member.wire,
            lambda partition, states: self.coordinator.restored(partition, states),
            lambda partition: self.coordinator.revoked(partition),
        )
        self.coordinator = Coordinator(
            self.table, member.wire, self._plans, catalogue, clock=member.clock, look_every=LOOK_EVERY
        )

    async def open(self) -> None:
        """Nothing: a plan is looked up when it is named."""
        return None

    async def hold(self, partitions: Sequence[int]) -> None:
        """Restore what is to be held, let go of the rest."""
        await self.table.rebalanced(partitions)

    async def work(self, batches: AsyncIterator[Batch]) -> None:
        """Handle events."""
        async for batch in batches:
            await self.coordinator.handle(batch)

    def beside(self) -> list[Coroutine[Any, Any, None]]:
        """Timers, and the look for what others wrote."""
        return [self.coordinator.fire_timers(), self._look()]

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_ENDS_S)
            await self.table.fence_other_writers()


class StepRole:
    """A worker process of one step."""

    def __init__(self, member: Member, step: str, catalogue: Catalogue, make_step: MakeStep) -> None:
        environment = member.environment
        plans = Plans(SimulatedLog(catalogue.plans.name, environment.broker, member.wire))
        host = SimulatedHost(catalogue, environment.broker, member.wire)
        self.runner = StepWorker(
            step,
            host,
            member.wire,
            plans,
            catalogue,
            max_in_flight=environment.chance.choice((1, 8)),
            make_step=make_step,
            clock=member.clock,
        )

    async def open(self) -> None:
        """Nothing: steps are opened with their first command."""
        return None

    async def hold(self, partitions: Sequence[int]) -> None:
        """Nothing: a runner keeps no state of partitions."""
        return None

    async def work(self, batches: AsyncIterator[Batch]) -> None:
        """Answer commands."""
        await self.runner.serve(batches)

    def beside(self) -> list[Coroutine[Any, Any, None]]:
        """Nothing."""
        return []
