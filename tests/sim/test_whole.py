"""Histories of the whole engine: every promise is kept, one seed is one history, and time and crashes are what they say."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from processors.saga.invariants import Violation
from processors.saga.plan import Resubmit
from processors.simulation.engine.event_loop import SimulatedProcess, Stalled, VirtualLoop
from processors.simulation.engine.faults import NOTICED, WEIGHTS, EngineFault, Planned, drawn
from processors.simulation.engine.history import shortened, whole_history
from processors.simulation.engine.report import accusation, circumstances, run_whole, shrunk_whole, silence
from tests.sim.plans import shop
from tests.sim.planted import ALL_BUGS

pytestmark = pytest.mark.timeout(300)
PLAN = shop(Resubmit.ALWAYS)


@pytest.fixture(autouse=True)
def quiet() -> object:
    """What the engine logs of its faults is no news here."""
    with silence():
        yield


def test_no_promise_is_broken() -> None:
    """Runner and coordinator keep every promise in histories in which processes are killed, halted and cut off."""
    report = run_whole(range(120), PLAN)
    assert not report.failures, "\n".join((report.failures[0].sentence, *report.failures[0].story))
    assert report.histories == 120
    assert set(report.ends) >= {"COMPLETED", "COMPENSATED"}
    assert len(report.faults) > len(EngineFault) * 0.8


def test_without_faults_every_job_completes() -> None:
    """A smooth history has one end."""
    whole = whole_history(1, PLAN, planned=())
    assert whole.ends == ("COMPLETED", "COMPLETED")
    assert not whole.violations
    assert set(whole.hits) <= NOTICED


def test_one_seed_is_one_history() -> None:
    """The same seed gives the same story to the last word, told twice."""
    for seed in (5, 16, 23):
        first = whole_history(seed, PLAN, traced=True)
        again = whole_history(seed, PLAN, traced=True)
        assert first.story == again.story
        assert first == again


def test_a_story_is_short() -> None:
    """Of a failing history only the faults are left that matter."""
    (bug,) = (one for one in ALL_BUGS if one.name == "coordinator: acknowledged before saved")
    with bug.plant():
        found = next(one for seed in range(400) if (one := whole_history(seed, PLAN)).violations)
        failure = shrunk_whole(found, PLAN)
        assert len(failure.planned) <= max(2, len(found.planned) // 2)
        again = whole_history(found.seed, PLAN, planned=failure.planned)
        assert failure.violation.rule in {one.rule for one in again.violations}
    assert any(str(one.kind) in failure.sentence for one in failure.planned)


def test_every_kind_of_fault_is_drawn() -> None:
    """What is never planned never happens."""
    kinds = Counter(one.kind for seed in range(2_000) for one in drawn(seed, PLAN))
    assert set(kinds) == set(WEIGHTS)
    assert set(WEIGHTS) | NOTICED == set(EngineFault)


def test_shorter_times_make_another_plan() -> None:
    """A shortened plan is pinned anew, and keeps what decides the course of a saga."""
    short = shortened(PLAN)
    assert short.hash != PLAN.hash
    assert [(one.name, one.undoable, one.confirms) for one in short.steps] == [
        (one.name, one.undoable, one.confirms) for one in PLAN.steps
    ]


@pytest.mark.parametrize(
    ("rule", "detail", "says"),
    [
        (
            "compensated means no effect left",
            "load has one",
            "your compensation for `load` leaks when the reply is lost",
        ),
        (
            "completed means every effect once",
            "load has 0",
            "`load` leaves 0 effects of a completed job, not one, when the reply is lost",
        ),
        ("paid at most once per key", "enrich: 2 times", "`enrich` pays more than once when the reply is lost"),
        ("sent before saved", "late", "sent before saved: job a: late when the reply is lost"),
    ],
)
def test_a_failure_is_said_in_one_sentence(rule: str, detail: str, says: str) -> None:
    """Whose step, what is wrong with it, and when."""
    planned = [Planned(EngineFault.REPLY_LOST, "load", 1, 0.1), Planned(EngineFault.REPLY_LOST, "load", 2, 0.1)]
    assert f"{accusation(Violation(rule, 'a', detail))} {circumstances(planned)}" == says
    assert circumstances([]) == "though nothing goes wrong"


# --- the loop and its processes -----------------------------------------------------------------------------------------


def test_time_passes_only_when_nothing_else_happens() -> None:
    """An hour's sleep takes no time, and a task that waits for nothing that will come is noticed."""
    loop = VirtualLoop()
    loop.run_until_complete(asyncio.sleep(3_600))
    assert loop.time() == pytest.approx(3_600)
    with pytest.raises(Stalled):
        loop.run_until_complete(asyncio.Event().wait())
    loop.finish()


def test_a_killed_process_does_nothing_more() -> None:
    """Not even what stands in its `finally`: that is what SIGKILL means."""
    loop, done = VirtualLoop(), []

    async def work() -> None:
        try:
            done.append("began")
            await asyncio.sleep(2)
            done.append("went on")
        finally:
            done.append("cleaned up")

    process = SimulatedProcess(loop, "p")
    process.spawn(work())
    loop.call_later(1, process.kill)
    loop.run_until_complete(asyncio.sleep(10))
    assert done == ["began"]
    loop.finish()


def test_a_halted_process_goes_on_where_it_was() -> None:
    """A zombie's timers are late, and a cancel that came meanwhile is felt on waking."""
    loop, done = VirtualLoop(), []

    async def work() -> None:
        try:
            async with asyncio.timeout(2):
                await asyncio.sleep(4)
        except TimeoutError:
            done.append(loop.time())

    process = SimulatedProcess(loop, "p")
    process.spawn(work())
    loop.call_later(1, process.halt)
    loop.call_later(8, process.wake)
    loop.run_until_complete(asyncio.sleep(10))
    assert done == [pytest.approx(8)]
    loop.finish()


def test_a_crash_can_hit_every_await() -> None:
    """A process that is killed at its nth turn has done what lies before its nth await, and nothing after it."""

    def until(turn: int) -> list[int]:
        loop, done = VirtualLoop(), []

        async def work() -> None:
            for number in range(5):
                done.append(number)
                await asyncio.sleep(1)

        process = SimulatedProcess(loop, "p")
        process.at_turn[turn] = process.kill
        process.spawn(work())
        loop.run_until_complete(asyncio.sleep(10))
        loop.finish()
        return done

    assert [len(until(turn)) for turn in range(1, 6)] == [0, 1, 2, 3, 4]


def test_a_thread_is_run_to_its_end_at_once() -> None:
    """What a step does in a thread happens, in the same order each time."""
    loop = VirtualLoop()
    assert loop.run_until_complete(asyncio.to_thread(lambda: 7)) == 7
    loop.finish()
