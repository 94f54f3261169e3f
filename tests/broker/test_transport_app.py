"""Apps in one loop against a real broker: back-pressure, late acknowledgements, readiness, crashes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from processors.errors import ConfigurationError
from processors.kafka.producer import Outgoing, Producer
from processors.kafka.record import Batch
from processors.transport.app import StreamApp, alive, create_faust_app, raw_topic, ready, serve
from processors.transport.batches import batches
from tests.broker.transport_world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def no_second_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing depend on the fetch loop's turn of every second: whatever allows fetching must wake it."""
    monkeypatch.setattr("processors.transport.consumer._IDLE_TURN_S", 60.0)


@pytest.fixture
def world(kafka_servers: str) -> Iterator[World]:
    with World(kafka_servers) as made:
        yield made


def app_of(world: World, folder: Path, **settings: Any) -> StreamApp:
    settings = {"session_timeout": timedelta(seconds=3), "heartbeat": timedelta(milliseconds=300)} | settings
    return create_faust_app(world.group, bootstrap_servers=world.bootstrap, data_dir=folder, **settings)


@asynccontextmanager
async def running(*apps: StreamApp, code: int = 0) -> AsyncIterator[None]:
    """The apps, ready; ends by stopping them and checks what serve() returns."""
    stop, is_ready = asyncio.Event(), asyncio.Event()

    async def on_ready() -> None:
        is_ready.set()

    served = asyncio.create_task(serve(apps, stop, on_ready=on_ready))
    waiting = asyncio.create_task(is_ready.wait())
    await asyncio.wait([served, waiting], timeout=90, return_when=asyncio.FIRST_COMPLETED)
    try:
        assert is_ready.is_set()
        yield
    finally:
        waiting.cancel()
        stop.set()
        assert await asyncio.wait_for(served, 60) == code


async def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Return once the condition holds; fail if it doesn't in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def keep(app: StreamApp, topic: str, kept: list[Batch], max_records: int = 10) -> None:
    """Declare an agent that keeps its batches unacknowledged."""

    @app.agent(raw_topic(app, topic), name=f"keeper of {topic}")
    async def keeper(stream: Any) -> None:
        async for batch in batches(stream, max_records):
            kept.append(batch)


def consumer_of(app: StreamApp) -> Any:
    """The app's consumer; Any, as Faust's interface does not name what ours adds."""
    return app.consumer


def handed(kept: list[Batch]) -> list[int]:
    return [record.offset for batch in kept for record in batch.records]


async def test_records_may_be_finished_in_any_order(world: World, tmp_path: Path) -> None:
    """The committed offset follows the lowest record that isn't done."""
    world.create(1)
    world.produce([(0, b"x")] * 10)
    app, kept = app_of(world, tmp_path), list[Batch]()
    keep(app, world.source, kept)
    async with running(app):
        await until(lambda: handed(kept) == list(range(10)))
        by_offset = {record.offset: (batch, record) for batch in kept for record in batch.records}
        for offset in (9, 1, 2, 5):
            by_offset[offset][0].done_one(by_offset[offset][1])
        await consumer_of(app).commit()
        assert world.committed(1) == [-1001]
        by_offset[0][0].done_one(by_offset[0][1])
        await consumer_of(app).commit()
        assert world.committed(1) == [3]
        for batch in kept:
            batch.done()
    assert world.committed(1) == [10]


async def test_fetching_pauses_while_too_much_is_undone(world: World, tmp_path: Path) -> None:
    """With the limit of records in hand no more come, other topics go on, and to the group the process is not idle."""
    world.create(1)
    world.produce([(0, b"x" * 100)] * 20_000)
    app = app_of(world, tmp_path, max_undone=500)
    kept, others = list[Batch](), list[Batch]()
    keep(app, world.source, kept, max_records=100)
    keep(app, world.sink, others)
    async with running(app):
        consumer = consumer_of(app)
        await until(lambda: consumer._held_back and not consumer.record_queue(world.source).queued)
        in_hand = len(handed(kept))
        # One fetch may exceed the limit, not two.
        assert 500 <= in_hand <= 500 + 2_000
        async with Producer(world.bootstrap) as producer:
            for offset in range(3):
                await producer.send([Outgoing(world.sink, 0, b"k", b"v")])
                await until(lambda offset=offset: handed(others) == list(range(offset + 1)))  # type: ignore[misc]
        assert len(handed(kept)) == in_hand
        # aiokafka leaves the group when nothing was polled for max.poll.interval.
        assert consumer.kafka._subscription.fetcher_idle_time == 0
        assert ready(app) == []
        while len(handed(kept)) < 20_000:
            for batch in kept:
                batch.done()
            before = len(kept)
            await until(lambda before=before: len(kept) > before or len(handed(kept)) == 20_000)  # type: ignore[misc]
        assert handed(kept) == list(range(20_000))


async def test_an_acknowledgement_from_before_a_rebalance_is_ignored(world: World, tmp_path: Path) -> None:
    """Records of an earlier assignment come again, and only their new acknowledgement commits."""
    world.create(2)
    world.produce([(0, b"x"), (1, b"y")])
    app, kept = app_of(world, tmp_path, settle=timedelta(milliseconds=100)), list[Batch]()
    keep(app, world.source, kept)
    async with running(app):
        await until(lambda: len(handed(kept)) == 2)
        early, kept[:] = list(kept), []
        consumer_of(app).kafka._coordinator.request_rejoin()
        await until(lambda: len(handed(kept)) == 2)
        for batch in early:
            assert not any(batch.owns(record) for record in batch.records)
            batch.done()
        await consumer_of(app).commit()
        assert world.committed(2) == [-1001, -1001]
        assert all(batch.owns(record) for batch in kept for record in batch.records)
        for batch in kept:
            batch.done()
    assert world.committed(2) == [1, 1]


async def test_a_rebalance_waits_for_records_in_work(world: World, tmp_path: Path) -> None:
    """What is finished while the partitions are being revoked is committed, and does not come again."""
    world.create(1)
    world.produce([(0, b"x")] * 5)
    app, kept = app_of(world, tmp_path), list[Batch]()
    keep(app, world.source, kept)
    async with running(app):
        await until(lambda: len(handed(kept)) == 5)
        consumer_of(app).kafka._coordinator.request_rejoin()
        await until(lambda: app.rebalancing)
        for batch in kept:
            batch.done()
        await until(lambda: not app.rebalancing)
        assert world.committed(1) == [5]
        world.produce([(0, b"last")])
        await until(lambda: len(handed(kept)) == 6)
        assert handed(kept) == list(range(6))
        kept[-1].done()


async def test_readiness_follows_the_app(world: World, tmp_path: Path) -> None:
    """Not ready before the start and after the stop, ready in between, alive throughout."""
    world.create(1)
    app = app_of(world, tmp_path)
    keep(app, world.source, [])
    assert ready(app) == ["not started"]
    async with running(app):
        await until(lambda: ready(app) == [])
        assert alive(app) == []
    assert ready(app) == ["stopping"]


async def test_a_topic_that_is_missing_makes_an_app_unready(world: World, tmp_path: Path) -> None:
    """An app without its topic looks assigned to Faust; it isn't ready, and says why."""
    app = app_of(world, tmp_path)
    keep(app, "nowhere", [])
    async with running(app):
        await until(lambda: "topic nowhere doesn't exist: provision the topics" in ready(app))


async def test_a_topic_that_was_unknown_is_read_as_soon_as_it_is_there(world: World, tmp_path: Path) -> None:
    """Who joined the group while the topic was missing owns nothing; it asks again at once, not after five minutes."""
    app, kept = app_of(world, tmp_path), list[Batch]()
    keep(app, world.source, kept)
    async with running(app):
        await until(lambda: ready(app) == [f"topic {world.source} doesn't exist: provision the topics"])
        await asyncio.to_thread(world.create, 2)
        await asyncio.to_thread(world.produce, [(0, b"x"), (1, b"x")])
        await until(lambda: len(handed(kept)) == 2, seconds=30)
        assert ready(app) == []


async def test_a_group_that_joined_while_the_broker_knew_no_topics_gets_its_partitions(
    world: World, tmp_path: Path
) -> None:
    """A broker that has just started may tell of no topics for a moment; seed 191 of the chaos run met one."""
    world.create(2)
    app, kept = app_of(world, tmp_path), list[Batch]()
    keep(app, world.source, kept)
    async with running(app):
        await until(lambda: ready(app) == [])
        kafka = consumer_of(app).kafka
        cluster = kafka._client.cluster
        cluster.partitions_for_topic = lambda topic: None
        kafka._coordinator.request_rejoin()
        await until(lambda: not consumer_of(app).assignment())
        # As the metadata of that moment left it.
        cluster._partitions = {}
        del cluster.partitions_for_topic
        await until(lambda: len(consumer_of(app).assignment()) == 2, seconds=30)
        await asyncio.to_thread(world.produce, [(0, b"x"), (1, b"x")])
        await until(lambda: len(handed(kept)) == 2, seconds=30)


async def test_a_faust_table_is_recovered_before_the_agents_get_records(world: World, tmp_path: Path) -> None:
    """Faust's own tables restore from their changelog over our consumer, and only then does work begin."""
    world.create(2)
    world.produce([(0, b"x")])
    app, found = app_of(world, tmp_path), list[bytes | None]()
    changelog = app.topic(
        world.sink, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", partitions=2
    )
    table = app.Table("kept", key_type=bytes, value_type=bytes, partitions=2, changelog_topic=changelog)
    async with Producer(world.bootstrap) as producer:
        await producer.send([Outgoing(world.sink, 0, str(i).encode(), b"v") for i in range(1_000)])

    @app.agent(raw_topic(app, world.source))
    async def look(stream: Any) -> None:
        async for batch in batches(stream):
            found.append(table.data.get(b"999"))
            batch.done()

    async with running(app):
        await until(lambda: bool(found))
        assert found == [b"v"]
    assert world.committed(2) == [1, -1001]


async def test_a_crash_of_one_app_stops_them_all(world: World, tmp_path: Path) -> None:
    """Two roles in one process: if one fails, the process ends with code 1 and the other has committed."""
    world.create(1)
    well = app_of(world, tmp_path / "well")
    ill = create_faust_app(f"{world.group}-ill", bootstrap_servers=world.bootstrap, data_dir=tmp_path / "ill")

    @well.agent(raw_topic(well, world.source))
    async def finish(stream: Any) -> None:
        async for batch in batches(stream):
            batch.done()

    @ill.agent(raw_topic(ill, world.sink))
    async def fail(stream: Any) -> None:
        async for _ in batches(stream):
            raise ValueError("told to fail")

    async with running(well, ill, code=1):
        world.produce([(0, b"x")] * 3)
        async with Producer(world.bootstrap) as producer:
            await producer.send([Outgoing(world.sink, 0, b"k", b"v")])
        await until(lambda: bool(alive(ill)))
        assert "told to fail" in alive(ill)[0]
        await until(lambda: ready(well) == ["stopping"])
    assert world.committed(1) == [3]


async def test_an_agent_that_returns_is_told(world: World, tmp_path: Path) -> None:
    """An agent whose function ended would leave its topic unread for ever: neither ready nor alive."""
    world.create(1)
    app = app_of(world, tmp_path)

    @app.agent(raw_topic(app, world.source), name="short")
    async def short(stream: Any) -> None:
        return

    async with running(app):
        await until(lambda: ready(app) == ["agent short has ended"] == alive(app))


async def test_an_agent_of_two_topics_is_refused(world: World, tmp_path: Path) -> None:
    """There is an inbox a topic; the error says to declare two agents."""
    world.create(1)
    app = app_of(world, tmp_path)

    @app.agent(app.topic(world.source, world.sink, key_type=bytes, value_type=bytes), name="both")
    async def both(stream: Any) -> None:
        async for _ in batches(stream):
            pass

    async with running(app, code=1):
        await until(lambda: app.crashed)
        assert isinstance(app.crash_reason, ConfigurationError)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"heartbeat": timedelta(seconds=2)}, "a session must outlast two heartbeats"),
        ({"settle": timedelta(seconds=40)}, "shorter than a rebalance"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    """A wrong combination stops the process before it joins a group."""
    with World("127.0.0.1:9") as world, pytest.raises(ConfigurationError, match=told):
        app_of(world, tmp_path, **wrong)
