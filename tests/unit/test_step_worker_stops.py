"""A worker whose answer Kafka did not take stops at once, though nothing more comes to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from processors.errors import DeliveryFailed
from processors.kafka.producer import Outgoing
from processors.kafka.record import Batch, Part, Record
from processors.messages.wire import encode_command
from processors.pipeline.plan_store import Plans
from processors.roles.step_worker import StepWorker
from processors.saga.commands import StepCommand
from processors.saga.plan import Plan, RetryPolicy, StepPlan, encode_plan, pin
from processors.saga.state import Action
from processors.step import NOTHING_TO_UNDO, Step, StepCall, StepOutput
from processors.testing import MemoryHost
from topics.catalogue import Catalogue

RETRY = RetryPolicy(attempts=3, base_ms=10, cap_ms=10, total_ms=60_000)


class Quick(Step):
    """A step that does nothing."""

    compensate = NOTHING_TO_UNDO

    async def run(self, call: StepCall) -> StepOutput:
        """Succeed."""
        return StepOutput()


class Refusing:
    """A producer whose records Kafka doesn't take."""

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Fail, after a while."""
        await asyncio.sleep(0)
        raise DeliveryFailed("Kafka did not acknowledge")


class Unacknowledged:
    """The ledger of one partition."""

    owned = True
    acknowledged = False

    def inherited(self, offset: int) -> bool:
        """Nobody was there before."""
        return False

    def done(self, offset: int) -> None:
        """Note it."""
        self.acknowledged = True

    def done_run(self, offsets: Sequence[int]) -> None:
        """Note it."""
        self.acknowledged = True


def of() -> Plan:
    """Return a plan of the one step."""
    step = StepPlan("quick", f"{Quick.__module__}:Quick", "{}", False, False, 5_000, 60_000, RETRY, 5_000, RETRY)
    return pin(Plan("p", "{}", (step,), 0, 1_000))


async def test_an_answer_that_was_not_delivered_stops_a_worker_that_waits_for_more() -> None:
    """Else the command would stay unanswered, and its job could never be run again, until another command came."""
    plan, host, ledger = of(), MemoryHost(), Unacknowledged()
    await host.log("plans").append(b"plan:" + plan.hash.encode(), encode_plan(plan))
    plans = Plans(host.log("plans"))
    await plans.refresh()
    runner = StepWorker("quick", host, Refusing(), plans, Catalogue(steps=("quick",)))
    command = StepCommand(
        "job", 1, 1, "quick", Action.EXECUTE, 1, "job:1:quick", plan.hash, "http://a", b"", "", 0, {}, b"", ""
    )
    record = Record("c", 0, 0, 1, b"job", encode_command(command), ())

    async def batches() -> AsyncIterator[Batch]:
        yield Batch([record], [Part(0, ledger, [0])])
        await asyncio.Event().wait()

    async with asyncio.timeout(60):
        with pytest.raises(DeliveryFailed):
            await runner.serve(batches())
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert not ledger.acknowledged
