"""The step runner: one command at a time for a job, every command answered, undo before new work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from processors.errors import StepFailed
from processors.kafka.producer import Outgoing
from processors.kafka.record import Batch, Part, Record
from processors.messages.wire import decode_event, encode_command
from processors.pipeline.plan_store import Plans
from processors.roles.step_worker import StepWorker
from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, Event, Failed, Succeeded
from processors.saga.plan import Plan, RetryPolicy, StepPlan, encode_plan, pin
from processors.saga.state import Action
from processors.step import Step, StepCall, StepOutput
from processors.testing import MemoryHost
from topics.catalogue import Catalogue

RETRY = RetryPolicy(attempts=3, base_ms=10, cap_ms=10, total_ms=60_000)


class Slow(Step):
    """A step that waits until it is let go, and counts what happened."""

    gate: asyncio.Event
    happened: list[str]
    refuses: bool

    async def run(self, call: StepCall) -> StepOutput:
        """Wait, then succeed."""
        self.happened.append(f"run {call.seq}")
        await self.gate.wait()
        if self.refuses:
            raise StepFailed("no such page")
        return StepOutput(data={"seq": call.seq})

    async def compensate(self, call: StepCall) -> None:
        """Count."""
        self.happened.append(f"undo {call.seq}")


class ReplyBatcher:
    """A producer that keeps what was sent, and may be told to take its time."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.takes_time = False

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Keep the records."""
        if self.takes_time:
            await asyncio.sleep(0)
        self.sent.extend(items)
        return [0] * len(items)

    def events(self, plan: Plan) -> list[Event]:
        """Return what the coordinator would read."""
        return [decode_event(one.value, lambda _: plan) for one in self.sent if one.topic.endswith(".events")]


class Done:
    """The ledger of one partition."""

    owned = True

    def __init__(self, inherited_below: int = 0) -> None:
        self.offsets: set[int] = set()
        self._inherited_below = inherited_below

    def inherited(self, offset: int) -> bool:
        """Whether it was there before."""
        return offset < self._inherited_below

    def done(self, offset: int) -> None:
        """Note one."""
        self.offsets.add(offset)

    def done_run(self, offsets: Sequence[int]) -> None:
        """Note all."""
        self.offsets.update(offsets)


def plan() -> Plan:
    """Return a plan of one slow step."""
    step = StepPlan("slow", f"{Slow.__module__}:Slow", "{}", True, False, 5_000, 60_000, RETRY, 5_000, RETRY)
    return pin(Plan("p", "{}", (step,), 0, 1_000))


def command(of: Plan, seq: int, action: Action = Action.EXECUTE, job: str = "job", expires_ms: int = 0) -> StepCommand:
    """Return a command for the slow step."""
    return StepCommand(
        job, 1, seq, "slow", action, 1, f"{job}:1:slow", of.hash, "http://a", b"", "", expires_ms, {}, b"", ""
    )


async def runner_of(of: Plan, answers: ReplyBatcher, max_in_flight: int = 64) -> StepWorker:
    """Return a runner that knows one plan."""
    host = MemoryHost()
    await host.log("plans").append(b"plan:" + of.hash.encode(), encode_plan(of))
    plans = Plans(host.log("plans"))
    await plans.refresh()
    return StepWorker("slow", host, answers, plans, Catalogue(steps=("slow",)), max_in_flight=max_in_flight)


async def run(
    commands: Sequence[StepCommand], of: Plan, *, takes_time: bool = False, inherited_below: int = 0
) -> tuple[ReplyBatcher, Done]:
    """Give a runner one batch of commands, wait until all are acknowledged, and return what it did."""
    answers, done = ReplyBatcher(), Done(inherited_below)
    answers.takes_time = takes_time
    runner = await runner_of(of, answers)
    records = [
        Record("c", 0, offset, 1, one.job_id.encode(), encode_command(one), ()) for offset, one in enumerate(commands)
    ]

    async def batches() -> AsyncIterator[Batch]:
        yield Batch(records, [Part(0, done, range(len(records)))])
        async with asyncio.timeout(5):
            while len(done.offsets) < len(records):
                await asyncio.sleep(0)

    await runner.serve(batches())
    return answers, done


@pytest.fixture(autouse=True)
def fresh() -> Any:
    """Each test has a gate of its own, open."""
    Slow.gate, Slow.happened, Slow.refuses = asyncio.Event(), [], False
    Slow.gate.set()


@pytest.mark.parametrize("takes_time", [False, True])
async def test_an_undo_that_comes_with_its_action_leaves_none_unanswered(takes_time: bool) -> None:
    """Redelivered together, the action is answered, and the undo is done: the partition goes on.

    An earlier owner may have begun the action, so this worker does not vouch that it had no effect.
    """
    of = plan()
    answers, done = await run([command(of, 1), command(of, 2, Action.COMPENSATE)], of, takes_time=takes_time)
    assert done.offsets == {0, 1}
    first, second = answers.events(of)
    assert isinstance(first, Failed) and first.outcome_unknown
    assert isinstance(second, Compensated)
    assert Slow.happened == ["undo 2"]


async def test_an_expired_action_is_not_run_and_its_outcome_is_unknown() -> None:
    """What waited too long is answered without a start; what an earlier owner made of it nobody here can say."""
    of = plan()
    answers, done = await run([command(of, 1, expires_ms=1)], of)
    assert done.offsets == {0}
    (only,) = answers.events(of)
    assert isinstance(only, Failed) and only.outcome_unknown and only.retryable
    assert Slow.happened == []


async def test_a_repeated_command_is_done_once() -> None:
    """A command that was seen is acknowledged and not run again."""
    of = plan()
    answers, done = await run([command(of, 1), command(of, 1)], of)
    assert done.offsets == {0, 1}
    assert Slow.happened == ["run 1"]
    assert {type(event) for event in answers.events(of)} == {Succeeded}


async def test_an_answer_under_way_takes_no_place_from_other_jobs_but_holds_its_own() -> None:
    """While Kafka is slow to take an answer, other jobs go on; the next command of the same job waits."""
    of = plan()
    answers, done = ReplyBatcher(), Done()
    runner = await runner_of(of, answers, max_in_flight=1)
    taken = asyncio.Event()
    send = answers.send

    async def slowly(items: Sequence[Outgoing]) -> list[int]:
        await taken.wait()
        return await send(items)

    answers.send = slowly  # type: ignore[method-assign]  # a Kafka that takes its time
    commands = [command(of, 1, job="a"), command(of, 1, job="b"), command(of, 2, Action.COMPENSATE, job="a")]
    records = [Record("c", 0, n, 1, one.job_id.encode(), encode_command(one), ()) for n, one in enumerate(commands)]

    async def batches() -> AsyncIterator[Batch]:
        yield Batch(records[:2], [Part(0, done, range(2))])
        async with asyncio.timeout(5):
            while len(Slow.happened) < 2:
                await asyncio.sleep(0)
        yield Batch(records[2:], [Part(0, done, range(2, 3))])
        for _ in range(10):
            await asyncio.sleep(0)
        assert Slow.happened == ["run 1", "run 1"]
        assert not done.offsets
        taken.set()
        async with asyncio.timeout(5):
            while len(done.offsets) < 3:
                await asyncio.sleep(0)

    await runner.serve(batches())
    assert Slow.happened == ["run 1", "run 1", "undo 2"]
    assert [type(event) for event in answers.events(of)] == [Succeeded, Succeeded, Compensated]


async def test_jobs_do_not_wait_for_each_other() -> None:
    """Commands of several jobs run side by side, and each is answered."""
    of = plan()
    answers, done = await run([command(of, 1, job=f"job-{n}") for n in range(20)], of)
    assert len(done.offsets) == 20
    assert len(answers.events(of)) == 20


@pytest.mark.parametrize(("inherited_below", "outcome_unknown"), [(1, True), (0, False)])
async def test_no_worker_vouches_for_an_earlier_owner(inherited_below: int, outcome_unknown: bool) -> None:
    """A definite failure is definite only of a command that no earlier owner of the partition can have begun."""
    Slow.refuses = True
    of = plan()
    answers, _ = await run([command(of, 1)], of, inherited_below=inherited_below)
    (only,) = answers.events(of)
    assert isinstance(only, Failed) and only.outcome_unknown is outcome_unknown and not only.retryable


async def test_a_command_delivered_again_while_it_runs_is_acknowledged_with_its_answer() -> None:
    """Acknowledged before, a crash between the two would leave the command without an answer."""
    of = plan()
    Slow.gate.clear()
    answers, first, second = ReplyBatcher(), Done(), Done()
    runner = await runner_of(of, answers)
    again = asyncio.Event()

    async def batches() -> AsyncIterator[Batch]:
        record = Record("c", 0, 0, 1, b"job", encode_command(command(of, 1)), ())
        yield Batch([record], [Part(0, first, [0])])
        await asyncio.sleep(0)
        yield Batch([record], [Part(0, second, [0])])
        again.set()
        async with asyncio.timeout(5):
            while not second.offsets:
                await asyncio.sleep(0)

    async def let_go() -> None:
        await again.wait()
        assert not second.offsets
        Slow.gate.set()

    await asyncio.gather(runner.serve(batches()), let_go())
    assert first.offsets == second.offsets == {0}
    assert Slow.happened == ["run 1"]
    assert len(answers.events(of)) == 1
