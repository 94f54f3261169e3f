"""Every operation without a terminal and without a broker: typed results, typed errors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

from processors.operations import (
    conservation,
    job_history,
    operator_requests,
    queries,
    replays,
    spending,
    submissions,
    verification,
)
from processors.operations.engine import Engine, Session
from processors.operations.errors import InvalidRequest, JobNotFound, RequestRefused, Unanswered
from processors.operations.operator_requests import By
from processors.operations.queries import Cursor, JobFilter
from processors.operations.replays import Replay, Start
from processors.operations.verification import AuditStatus
from processors.pipeline.plan_store import PIPELINE_KEY, PLAN_KEY
from processors.saga.invariants import Violation
from processors.saga.plan import encode_plan
from processors.saga.state import Phase
from processors.settings.settings import Settings
from processors.spend.book import SpendEntry, SpendState
from tests import honest
from tests.memory_kafka import MemoryTopics

T = TypeVar("T")
ANN = By("ann", "it is late")
SETTINGS = Settings(partitions=honest.PARTITIONS)


class World:
    """An honest engine whose topics are Kafka's, and which goes on answering what is asked of it."""

    def __init__(self, seed: int = 9, jobs: int = 12) -> None:
        # Recent enough for nothing to have been removed by retention, though its clock runs ahead by days.
        self.honest = honest.Engine(seed, now=int(time.time() * 1000) - 25 * 3_600_000)
        plan = self.honest.plan
        self.honest.append("scrape.plans", PLAN_KEY + plan.hash.encode(), encode_plan(plan), partition=0)
        self.honest.append("scrape.plans", PIPELINE_KEY + b"shop", plan.hash.encode(), partition=0)
        self.honest.run(jobs)
        records = (one for topic in self.honest.topics.values() for one in topic)
        counts = {topic.name: topic.partitions for topic in honest.CATALOGUE}
        self.topics = MemoryTopics({**counts, "mine": 1}, records)
        self.engine = self.topics.engine(SETTINGS)

    def answers(self) -> None:
        """Let a coordinator handle what is appended to the events."""

        def coordinate(record: object) -> None:
            if getattr(record, "topic", "") != "scrape.events":
                return
            known = {topic: len(log) for topic, log in self.honest.topics.items()}
            self.honest.now = max(self.honest.now, record.timestamp_ms)  # type: ignore[attr-defined]  # a Record
            self.honest.coordinate(record)  # type: ignore[arg-type]  # as said
            for topic, log in self.honest.topics.items():
                for one in log[known.get(topic, 0) :]:
                    self.topics.append(topic, one.key, one.value, one.headers, one.partition)

        self.topics.on_append = coordinate

    def job(self, *phases: Phase) -> str:
        """Return a job that is in one of these phases."""
        return next(job for job, saga in sorted(self.honest.sagas.items()) if saga.phase in phases)


@pytest.fixture(scope="module")
def seen() -> World:
    """A world that tests only look at."""
    return World()


@pytest.fixture
def world() -> World:
    """A world of a test's own."""
    return World()


async def gathered(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


# --- queries ----------------------------------------------------------------------------------------------------------


async def test_status_is_the_latest_state_with_the_names_of_its_steps(seen: World) -> None:
    """What the engine holds of each job, by id; of a job that there isn't, an error that names it."""
    for job, saga in seen.honest.sagas.items():
        state = await queries.status(seen.engine, job)
        assert (state.job_id, state.phase, state.seq, state.run) == (job, saga.phase, saga.seq, saga.run)
        assert (state.steps, state.offset, state.updated_ms) == (("fetch", "notify"), saga.offset, saga.updated_ms)
    with pytest.raises(JobNotFound, match="no job 'nobody'") as caught:
        await queries.status(seen.engine, "nobody")
    assert caught.value.job_id == "nobody"


async def test_a_list_is_paged_by_its_cursor(seen: World) -> None:
    """All jobs, the latest changed first, each once, whatever the size of a page; a cursor survives as text."""
    whole = await queries.list_jobs(seen.engine, limit=100)
    assert {state.job_id for state in whole.jobs} == set(seen.honest.sagas) and whole.next is None
    ages = [(-state.updated_ms, state.job_id) for state in whole.jobs]
    assert ages == sorted(ages)
    for limit in (1, 4, 5):
        paged: list[str] = []
        cursor: Cursor | None = None
        while True:
            page = await queries.list_jobs(seen.engine, limit=limit, after=cursor)
            paged += [state.job_id for state in page.jobs]
            if page.next is None:
                break
            assert len(page.jobs) == limit
            cursor = Cursor.read(str(page.next))
        assert paged == [state.job_id for state in whole.jobs]
    with pytest.raises(InvalidRequest, match="not a cursor"):
        Cursor.read("nonsense")


async def test_a_list_holds_what_is_wanted(seen: World) -> None:
    """By phase, by label, by pipeline and by time, all of them together."""
    ended = {job for job, saga in seen.honest.sagas.items() if saga.phase is Phase.COMPLETED}

    async def found(wanted: JobFilter) -> set[str]:
        return {state.job_id for state in (await queries.list_jobs(seen.engine, wanted)).jobs}

    assert await found(JobFilter(frozenset({Phase.COMPLETED}), "label", "shop")) == ended
    assert await found(JobFilter(label="another")) == await found(JobFilter(pipeline="another")) == set()
    times = sorted(saga.updated_ms for saga in seen.honest.sagas.values())
    late = {job for job, saga in seen.honest.sagas.items() if saga.updated_ms >= times[-3]}
    assert await found(JobFilter(since_ms=times[-3])) == late


async def test_watching_a_job_tells_its_present_state_and_each_change(world: World) -> None:
    """A job that has ended is told once; one that goes on, each state in turn."""
    world.answers()
    done = world.job(Phase.COMPLETED)
    assert [state.phase async for state in queries.watch(world.engine, job_id=done)] == [Phase.COMPLETED]
    parked = world.job(Phase.PARKED)
    told: list[tuple[int, Phase]] = []
    async for state in queries.watch(world.engine, job_id=parked, seconds=20):
        told.append((state.seq, state.phase))
        if len(told) == 1:
            await operator_requests.resume(world.engine, parked, ANN)
        elif len(told) == 2:
            break
    assert told[0][1] is Phase.PARKED and told[1][0] > told[0][0]


async def test_who_leaves_stops_the_read(seen: World) -> None:
    """A caller that is cancelled, or goes, ends the thread's work, and its connection serves the next operation."""
    engine = seen.topics.engine(SETTINGS)
    watching = asyncio.ensure_future(gathered(queries.watch(engine)))
    await asyncio.sleep(0.1)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(watching, 5)
    async for _ in queries.watch(engine, seconds=0.2):
        pass
    assert len(engine._idle) == 1
    assert (await queries.list_jobs(engine, limit=1)).jobs


# --- operators' requests ----------------------------------------------------------------------------------------------


async def test_a_request_is_answered_by_the_state_that_it_led_to(world: World) -> None:
    """Cancel, resume, skip and redrive return what the coordinator made of them, with who asked and why."""
    world.answers()
    parked = world.job(Phase.PARKED)
    before = await queries.status(world.engine, parked)
    answer = await operator_requests.resume(world.engine, parked, ANN)
    assert answer is not None and answer.seq > before.seq
    assert any("ann" in act and "it is late" in act for act in answer.fields["operator_actions"])
    completed = world.job(Phase.COMPLETED)
    again = await operator_requests.redrive(world.engine, completed, "fetch", ANN)
    assert again is not None and (again.phase, again.run) == (Phase.RUNNING, world.honest.sagas[completed].run)
    cancelled = await operator_requests.cancel(world.engine, completed, ANN)
    assert cancelled is not None and cancelled.phase in (Phase.COMPENSATING, Phase.COMPENSATED)


async def test_what_cannot_be_done_is_refused_before_anything_is_sent(world: World) -> None:
    """Each refusal says what would be possible, and no event was written."""
    events = sum(len(log) for (topic, _), log in world.topics.logs.items() if topic == "scrape.events")
    done = world.job(Phase.COMPLETED)
    parked = world.job(Phase.PARKED)
    ask = operator_requests
    for request, why in [
        (ask.cancel(world.engine, done, ANN), "only a running or parked job can be cancelled"),
        (ask.resume(world.engine, done, ANN), "only a parked job can be resumed"),
        (ask.redrive(world.engine, parked, "fetch", ANN), "only a completed or compensated job"),
        (ask.redrive(world.engine, done, "load", ANN), "no step 'load'; there are: fetch, notify"),
        (ask.skip(world.engine, parked, By("ann")), "needs a reason"),
    ]:
        with pytest.raises(RequestRefused, match=why):
            await request
    with pytest.raises(JobNotFound):
        await ask.cancel(world.engine, "nobody", ANN)
    assert events == sum(len(log) for (topic, _), log in world.topics.logs.items() if topic == "scrape.events")


async def test_nobody_answers(world: World) -> None:
    """Without a coordinator the request stands, and its caller is told so; who waits for nothing gets nothing."""
    parked = world.job(Phase.PARKED)
    with pytest.raises(Unanswered, match="does a coordinator run"):
        await operator_requests.resume(world.engine, parked, ANN, wait_s=0.1)
    assert await operator_requests.resume(world.engine, parked, ANN, wait_s=0) is None


# --- submissions ------------------------------------------------------------------------------------------------------


async def test_submitting_tells_what_became_of_each_line(world: World) -> None:
    """Good lines are on the topic of URLs with the job's id, bad ones are named; an unknown pipeline sends nothing."""
    lines = ["https://shop.test/1", "nonsense", '{"url": "https://shop.test/2", "job_id": "two"}']
    asked = submissions.read_lines("list", lines, submissions.RequestDefaults(pipeline="shop"))
    told = await gathered(submissions.submit(world.engine, asked, "shop"))
    assert [(one.place, bool(one.problem)) for one in told] == [("list:1", False), ("list:2", True), ("list:3", False)]
    assert told[0].job_id and told[2].job_id == "two"
    sent = [one for (topic, _), log in world.topics.logs.items() if topic == "scrape.urls" for one in log]
    assert [job_history.decode(one).fields["url"] for one in sent[-2:]] == [
        "https://shop.test/1",
        "https://shop.test/2",
    ]
    with pytest.raises(RequestRefused, match="no pipeline 'books' was published; there are: shop"):
        await gathered(submissions.submit(world.engine, iter(()), "books"))


# --- history and replay -----------------------------------------------------------------------------------------------


async def test_a_history_is_every_record_of_the_job_and_no_other(seen: World) -> None:
    """From its request to its last state on all topics, in the order of time; what nobody knows is refused."""
    for job in list(seen.honest.sagas)[:6]:
        told = await job_history.history(seen.engine, job)
        key = job.encode()
        expected = {
            (one.topic, one.partition, one.offset)
            for topic, log in seen.honest.topics.items()
            for one in log
            if one.key == key and topic != "scrape.plans"
        }
        requests = {
            ("scrape.urls", one.fields["origin_partition"], one.fields["origin_offset"])
            for one in told
            if one.message == "submitted"
        }
        assert {(one.record.topic, one.record.partition, one.record.offset) for one in told} == expected | requests
        times = [one.record.timestamp_ms for one in told]
        assert times == sorted(times) and told[0].record.topic == "scrape.urls"
    with pytest.raises(RequestRefused, match="no record of job 'nobody'"):
        await job_history.history(seen.engine, "nobody")


async def test_a_history_reads_nothing_from_before_the_job(seen: World) -> None:
    """Of the job's own topics nothing older than its beginning is read, unless it is asked for."""
    topics = MemoryTopics(seen.topics.partitions, (one for log in seen.topics.logs.values() for one in log))
    last = max(seen.honest.sagas.values(), key=lambda saga: saga.started_ms)
    began = job_history.began_ms({"run": last.run, "started_ms": last.started_ms})
    await job_history.history(topics.engine(SETTINGS), last.job_id, since_ms=last.started_ms)
    narrow = [one for one in topics.read if one.topic == "scrape.events"]
    assert narrow and all(one.timestamp_ms >= last.started_ms for one in narrow)
    assert began <= last.started_ms


async def test_a_replay_yields_or_produces_what_a_topic_holds(world: World) -> None:
    """Of all jobs, of one, of one label; to a topic of one's own with key, value and headers as they are."""
    job = world.job(Phase.COMPLETED)
    everything = await gathered(replays.replay(world.engine, Replay("events", Start(0, 0))))
    assert len(everything) == len(world.honest.topics["scrape.events"])
    mine = Replay("scrape.events", Start(0, 0), job_id=job, to_topic="mine")
    told = await gathered(replays.replay(world.engine, mine))
    assert [one.record.value for one in told] == [one.value for one in world.topics.logs["mine", 0]]
    assert {one.job_id for one in told} == {job}
    labelled = await gathered(replays.replay(world.engine, Replay("events", Start(0, 0), label="label")))
    assert 0 < len(labelled) <= len(everything)
    for target, why in [("sagas", "only the engine may write"), ("events", "to itself")]:
        with pytest.raises(RequestRefused, match=why):
            await gathered(replays.replay(world.engine, Replay("events", Start(0, 0), to_topic=target)))


# --- conservation, spend, verification --------------------------------------------------------------------------------


async def test_conservation_adds_up(seen: World) -> None:
    """Every accepted job of the batch is somewhere; another label has none."""
    (sums,) = (await conservation.conservation(seen.engine, "label")).values()
    numbers = sums.numbers()
    assert numbers["accepted"] == 12 and not sums.lost
    assert numbers["completed"] == sum(one.phase is Phase.COMPLETED for one in seen.honest.sagas.values())
    assert await conservation.conservation(seen.engine, "another") == {}


def paid(job: str, at: datetime, cost: str = "0.5") -> SpendEntry:
    key = f"{job}:1:enrich"
    return SpendEntry(
        key=key,
        version=1,
        pipeline="shop",
        step="enrich",
        content_hash=job,
        state=SpendState.PAID,
        seq=1,
        written_by=key,
        cost=Decimal(cost),
        cap=Decimal(10),
        at=at.isoformat(),
        response=b"{}",
        known=True,
    )


async def test_spending_is_summed_and_old_entries_forgotten(world: World) -> None:
    """The sum stays when entries go; a dry run changes nothing; too young an age is refused."""
    old = datetime.now(UTC) - timedelta(days=400)
    for entry in (paid("gone-1", old), paid("gone-2", old), paid(world.job(Phase.COMPLETED), old)):
        world.topics.append("scrape.spend", entry.key.encode(), entry.encode(), partition=0)
    (before,) = await spending.spent(world.engine)
    assert (before.pipeline, before.spent, before.entries) == ("shop", Decimal("1.5"), 3)
    age = timedelta(days=90)
    for dry_run in (True, False):
        (told,) = await gathered(spending.forget(world.engine, age, dry_run=dry_run))
        assert (told.entries, told.cost) == (2, Decimal("1.0"))
    (after,) = await spending.spent(world.engine)
    assert (after.spent, after.entries) == (Decimal("1.5"), 2)
    with pytest.raises(RequestRefused, match="at least 7d"):
        await gathered(spending.forget(world.engine, timedelta(days=6)))


@pytest.mark.parametrize("tampered", [False, True])
async def test_the_log_is_verified(world: World, tampered: bool) -> None:
    """An honest log has no divergence; a state that was removed is one; the follower says the same."""
    log = world.topics.logs["scrape.sagas", 0]
    if tampered:
        # Not a job's last: what is missing at an end may still be written.
        keys = [one.key for one in log]
        del log[next(n for n, one in enumerate(log) if one.value is not None and keys.count(one.key) > 2)]
    found = await verification.verify(world.engine)
    assert bool(found.divergences) is tampered
    assert found.events == len(world.honest.topics["scrape.events"])
    told = await gathered(verification.audit(world.engine, to_end=True))
    first, *between, last = told
    assert isinstance(first, AuditStatus) and isinstance(last, AuditStatus)
    assert any(isinstance(one, Violation) and one.rule == "seq without gaps" for one in between) is tampered
    assert bool(last.violations.get("seq-without-gaps")) is tampered


async def test_an_audit_ends_when_it_is_told_to(seen: World) -> None:
    """Its last word is the status at that moment."""
    ended = threading.Event()
    items = verification.audit(seen.engine, ended=ended)
    first = await anext(items)
    ended.set()
    rest = await gathered(items)
    assert isinstance(first, AuditStatus) and isinstance(rest[-1], AuditStatus)


# --- the engine -------------------------------------------------------------------------------------------------------


async def test_operations_of_one_engine_run_beside_each_other(seen: World) -> None:
    """Each has a connection of its own while it runs; those that are idle are used again."""
    engine = Engine(SETTINGS, reader=seen.topics.engine(SETTINGS)._new_reader)
    inside = threading.Barrier(3, timeout=20)

    def meet(session: Session) -> int:
        inside.wait()
        return id(session.reader)

    readers = await asyncio.gather(*(engine.run(meet) for _ in range(3)))
    assert len(set(readers)) == 3 == len(engine._idle)

    def work(session: Session) -> Iterator[int]:
        yield id(session.reader)

    assert set([one async for one in engine.stream(work)]) <= set(readers)
    await engine.close()
    assert not engine._idle
