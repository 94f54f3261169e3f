"""The plans that sagas are pinned to, as scrape.plans holds them.

Intake publishes a plan, and has it acknowledged, before it publishes a submission that names it. So whoever meets a hash
finds its plan by reading the topic to its present end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from processors.errors import BadRecord, PipelineError
from processors.saga.plan import Plan, decode_plan, encode_plan

if TYPE_CHECKING:
    # Whoever only looks up a plan need not load what steps are made of.
    from processors.step import Log

PLAN_KEY = b"plan:"
PIPELINE_KEY = b"pipeline:"


class UnknownPlan(BadRecord):
    """No plan with this hash has been read yet."""

    def __init__(self, plan_hash: str) -> None:
        super().__init__(f"no plan {plan_hash!r} in the plans topic")
        self.plan_hash = plan_hash


class PlanBook:
    """What the plans topic says: plans by hash, and each pipeline's current one by name."""

    def __init__(self) -> None:
        self._by_hash: dict[str, Plan] = {}
        self._current: dict[str, str] = {}

    @classmethod
    def of(cls, records: Iterable[tuple[bytes | None, bytes | None]]) -> PlanBook:
        """Return the book that keys and values of the topic, in their order, make."""
        book = PlanBook()
        for key, value in records:
            book.apply(key or b"", value)
        return book

    def __call__(self, plan_hash: str) -> Plan:
        """Return a plan by hash. Raises UnknownPlan: there is none, or it was not read yet."""
        plan = self._by_hash.get(plan_hash)
        if plan is None:
            raise UnknownPlan(plan_hash)
        return plan

    def __contains__(self, plan_hash: str) -> bool:
        return plan_hash in self._by_hash

    def current(self, pipeline: str) -> Plan | None:
        """Return the plan that new submissions of a pipeline get."""
        return self._by_hash.get(self._current.get(pipeline, ""))

    def is_current(self, plan: Plan) -> bool:
        """Whether new submissions of the plan's pipeline get this very plan."""
        return self._current.get(plan.pipeline) == plan.hash

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Names of all pipelines that were ever published, sorted."""
        return tuple(sorted(self._current))

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take in one record of the topic."""
        if value is None:
            return
        if key.startswith(PLAN_KEY):
            try:
                plan = decode_plan(value)
            except PipelineError:
                # A plan of a newer version: what is pinned to it says so when it is asked for.
                return
            self._by_hash[plan.hash] = plan
        elif key.startswith(PIPELINE_KEY):
            # One that can't be read names no plan that there is.
            self._current[key[len(PIPELINE_KEY) :].decode(errors="replace")] = value.decode(errors="replace")


class Plans(PlanBook):
    """The book as a running process keeps it: read on from the topic when a hash is unknown, and written by intake."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the topic to its present end."""
        async with self._refreshing:
            for _, key, value in await self._log.catch_up():
                self.apply(key, value)

    async def publish(self, plans: Iterable[Plan]) -> None:
        """Publish plans that aren't there yet, and make each its pipeline's current one."""
        await self.refresh()
        for plan in plans:
            if plan.hash not in self:
                await self._log.append(PLAN_KEY + plan.hash.encode(), encode_plan(plan))
            if not self.is_current(plan):
                await self._log.append(PIPELINE_KEY + plan.pipeline.encode(), plan.hash.encode())
        await self.refresh()
