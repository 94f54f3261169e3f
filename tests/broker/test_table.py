"""The saga table on a real broker: what Kafka acknowledged is restored by highest seq, whoever else wrote."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__
from faust.types import TP

from processors.errors import ConfigurationError, DeliveryFailed, ProtocolViolation
from processors.kafka.producer import Outgoing, Producer
from processors.local.kafka import EmbeddedKafka
from processors.saga_table.changelog_reader import ChangelogReader, LogRecord
from processors.saga_table.fencing import OwnershipLost
from processors.saga_table.store import PartitionNotHeld
from processors.saga_table.table import SagaTable
from processors.transport.app import StreamApp, create_faust_app, raw_topic, serve
from processors.transport.batches import batches
from processors.transport.consumer import FastConsumer
from processors.transport.recovery import BulkTables, add_saga_table
from processors.transport.saga_table import FaustSagaTable

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

PARTITIONS = 2
in_each_store = pytest.mark.parametrize("store", ["memory", "rocksdb"])


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One broker for all tests; its cleaner looks often enough for a test to wait for it."""
    folder = tmp_path_factory.mktemp("kafka")
    with EmbeddedKafka(folder, properties={"log.cleaner.backoff.ms": "100"}, login=False) as broker:
        yield broker


@dataclass
class World:
    """Topics of one test, and how apps are made on them."""

    servers: str
    folder: Path
    sagas: str = field(default_factory=lambda: f"sagas-{uuid4().hex[:8]}")
    events: str = field(default_factory=lambda: f"events-{uuid4().hex[:8]}")

    def create(self, **config: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.servers})
        sagas = NewTopic(
            self.sagas, PARTITIONS, config={"cleanup.policy": "compact,delete", "retention.ms": "-1", **config}
        )
        for made in admin.create_topics([sagas, NewTopic(self.events, PARTITIONS)]).values():
            made.result(20)

    @property
    def client(self) -> dict[str, str | int | bool]:
        return {"bootstrap.servers": self.servers}

    def delete_before(self, offset: int, partition: int = 0) -> None:
        admin = AdminClient({"bootstrap.servers": self.servers})
        for done in admin.delete_records([TopicPartition(self.sagas, partition, offset)]).values():
            done.result(20)

    def log(self, partition: int = 0) -> list[LogRecord]:
        with ChangelogReader(self.sagas, self.client) as reader:
            first, end = reader.bounds(partition)
            return reader.read_range(partition, first, end - 1)

    def compacted(self, partition: int = 0) -> dict[bytes, bytes]:
        """What compaction would leave of the log: the last record of each key."""
        last = {record.key: record.value for record in self.log(partition)}
        return {key: value for key, value in last.items() if value is not None}

    async def write(self, *items: tuple[bytes, bytes | None] | tuple[bytes, None, int], partition: int = 0) -> None:
        """Write as somebody else."""
        async with Producer(self.servers) as zombie:
            await zombie.send([written(self.sagas, partition, *item) for item in items])


def written(topic: str, partition: int, key: bytes, value: bytes | None, seq: int | None = None) -> Outgoing:
    headers = () if seq is None else (("seq", str(seq).encode()),)
    return Outgoing(topic, partition, key, value, headers)


@pytest.fixture
def world(kafka: EmbeddedKafka, tmp_path: Path) -> World:
    made = World(kafka.bootstrap_servers, tmp_path)
    made.create()
    return made


@dataclass
class Running:
    """An app with its table, and what the table has told."""

    app: StreamApp
    table: SagaTable
    producer: Producer
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    restored: list[tuple[int, dict[bytes, bytes]]] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    serving: asyncio.Task[int] | None = None

    @property
    def states(self) -> dict[bytes, bytes]:
        return dict(
            item for partition in range(PARTITIONS) if self.has(partition) for item in self.table.items(partition)
        )

    def has(self, partition: int) -> bool:
        held = self.table._partitions.get(partition)
        return held is not None and held.active

    async def end(self) -> int:
        assert self.serving is not None
        return await asyncio.wait_for(self.serving, 60)


def new_app(
    world: World,
    store: str = "memory",
    *,
    folder: str = "data",
    group: str | None = None,
    producer: Producer | None = None,
    standbys: int = 0,
    **settings: Any,
) -> Running:
    restored: list[tuple[int, dict[bytes, bytes]]] = []
    revoked: list[int] = []
    producer = producer or Producer(world.servers)
    app = create_faust_app(
        group or f"group-{uuid4().hex[:8]}",
        bootstrap_servers=world.servers,
        store=f"{store}://",
        data_dir=world.folder / folder,
        session_timeout=timedelta(seconds=4),
        heartbeat=timedelta(seconds=0.5),
        rebalance_timeout=timedelta(seconds=20),
        table_standby_replicas=standbys,
    )

    def on_restored(partition: int, items: Iterable[tuple[bytes, bytes]]) -> None:
        restored.append((partition, dict(items)))

    settings.setdefault("look_every", timedelta(hours=1))
    table = add_saga_table(
        app,
        producer=producer,
        client=world.client,
        topic=world.sagas,
        on_restored=on_restored,
        on_revoked=revoked.append,
        **settings,
    )
    assert isinstance(app.tables, BulkTables)
    app.tables.recovery.follow_every = timedelta(seconds=0.2)

    @app.agent(raw_topic(app, world.events))
    async def coordinate(stream: Any) -> None:
        async for batch in batches(stream):
            batch.done()

    return Running(app, table, producer, restored=restored, revoked=revoked)


@asynccontextmanager
async def serving(run: Running) -> AsyncIterator[Running]:
    async def on_ready() -> None:
        await run.app.tables.wait_until_recovery_completed()
        run.ready.set()

    run.serving = asyncio.create_task(serve([run.app], run.stop, resources=[run.producer], on_ready=on_ready))
    try:
        yield run
    finally:
        run.stop.set()
        await run.end()


@asynccontextmanager
async def running(world: World, *arguments: Any, **settings: Any) -> AsyncIterator[Running]:
    """An app that has been restored."""
    async with serving(new_app(world, *arguments, **settings)) as run:
        await asyncio.wait_for(run.ready.wait(), 60)
        yield run


async def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} took over {seconds} s"
        await asyncio.sleep(0.02)


def state(seq: int, rest: bytes = b"rest") -> bytes:
    return b"\xc3\x01fingerpr" + bytes([2 * seq, 0, 2]) + rest


def run_async(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


@in_each_store
def test_what_was_saved_is_restored(world: World, store: str) -> None:
    """Saved states and forgotten sagas are the same after a restart, and the hooks tell them by partition."""

    async def body() -> None:
        async with running(world, store) as run:
            await run.table.save(0, [(b"a", state(1)), (b"b", state(1)), (b"a", state(2)), (b"c", state(1))])
            await run.table.save(0, [(b"b", None), (b"c", state(2))])
            await run.table.save(1, [(b"d", state(1))])
            assert run.table.get(b"a", 0) == state(2)
            assert run.table.get(b"b", 0) is None
            assert run.table.get(b"a", 1) is None
            assert len(run.table) == 3
        async with running(world, store) as run:
            assert dict(run.restored) == {0: {b"a": state(2), b"c": state(2)}, 1: {b"d": state(1)}}
            assert len(run.table) == 3
            assert dict(cast(Any, run.app.tables["sagas"])) == run.states

    run_async(body())


@in_each_store
def test_restoring_takes_the_highest_seq_and_heals_the_log(world: World, store: str) -> None:
    """Stale records in the log are not restored, and the ones that hold are published after them."""

    async def body() -> None:
        await world.write((b"a", state(1)), (b"a", state(3)), (b"b", state(5)), (b"c", state(2)), (b"c", None, 2))
        await world.write((b"a", state(2)), (b"b", None, 4), (b"c", state(1)), (b"d", state(1)), (b"d", None))
        expected = {b"a": state(3), b"b": state(5), b"d": state(1)}
        async with running(world, store) as run:
            assert run.states == expected
        assert world.compacted() == expected
        healed = len(world.log())
        assert healed == 14
        async with running(world, store, folder="another") as run:
            assert run.states == expected
        assert len(world.log()) == healed

    run_async(body())


@in_each_store
def test_a_zombies_write_between_own_writes_is_healed(world: World, store: str) -> None:
    """A gap in the offsets of own writes is read at once; what lost there is published again."""

    async def body() -> None:
        async with running(world, store) as run:
            await run.table.save(0, [(b"a", state(1)), (b"a", state(2)), (b"gone", state(1))])
            await run.table.save(0, [(b"gone", None)])
            await world.write((b"a", state(1)), (b"gone", state(1)))
            await run.table.save(0, [(b"b", state(1))])
            assert run.states == {b"a": state(2), b"b": state(1)}
            assert world.compacted() == run.states
            before = len(world.log())
            await run.table.save(0, [(b"b", state(2))])
            assert len(world.log()) == before + 1
            assert run.table.known_offset(0) == before
        async with running(world, store) as run:
            assert run.states == {b"a": state(2), b"b": state(2)}

    run_async(body())


def test_a_zombies_last_write_is_healed_in_time(world: World) -> None:
    """Without any own write, the timer finds what lies after the last one."""

    async def body() -> None:
        async with running(world, look_every=timedelta(seconds=0.2)) as run:
            await run.table.save(0, [(b"a", state(1)), (b"a", state(2))])
            await world.write((b"a", state(1)))
            await until(lambda: len(world.log()) == 4, "healing")
            assert world.compacted() == {b"a": state(2)}

    run_async(body())


def test_the_groups_consumer_fetches_nothing_of_the_log(world: World) -> None:
    """What is read in bulk is not fetched once more, to lie in memory: an event comes, and nothing of the log with it."""

    async def body() -> None:
        await world.write(*((b"%d" % number, state(1)) for number in range(100)))
        async with running(world) as run:
            consumer = run.app._consumer
            assert isinstance(consumer, FastConsumer)
            await run.producer.send([Outgoing(world.events, 0, b"a", b"an event")])
            await until(lambda: TP(world.events, 0) in consumer._trackers, "an event")
            assert [tp for tp in consumer.kafka._fetcher._records if tp.topic == world.sagas] == []

    run_async(body())


def test_whoever_is_behind_for_long_stops(world: World) -> None:
    """A record with a higher seq that this process doesn't catch up with ends it, with a message that says why."""

    async def body() -> None:
        async with running(world, look_every=timedelta(seconds=0.2), patience=timedelta(seconds=1)) as run:
            await run.table.save(0, [(b"a", state(1))])
            await world.write((b"a", state(2)))
            assert await run.end() == 1
            assert isinstance(run.app.crash_reason, OwnershipLost)
            assert "isn't the owner any more" in str(run.app.crash_reason)

    run_async(body())


def test_a_save_tells_that_ownership_is_lost(world: World) -> None:
    """With no patience left, save() raises before its caller can acknowledge the event."""

    async def body() -> None:
        async with running(world, patience=timedelta(0)) as run:
            await run.table.save(0, [(b"a", state(1))])
            await world.write((b"new", state(1)))
            with pytest.raises(OwnershipLost, match="Another process wrote"):
                await run.table.save(0, [(b"a", state(2))])

    run_async(body())


def test_a_zombie_that_is_one_event_ahead_is_caught_up_with(world: World) -> None:
    """The owner may be behind a zombie for a moment: once it has written the same, nothing is left to do."""

    async def body() -> None:
        async with running(world, patience=timedelta(seconds=30)) as run:
            await run.table.save(0, [(b"a", state(1))])
            await world.write((b"a", state(2)))
            await run.table.fence_other_writers()
            assert run.table.known_offset(0) == 0
            await run.table.save(0, [(b"a", state(2))])
            await run.table.fence_other_writers()
            assert run.table.known_offset(0) == 2
            assert len(world.log()) == 3

    run_async(body())


class DiesAfterAcknowledgement(Producer):
    """A producer whose process is gone once Kafka has the records."""

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        await super().send(items)
        raise DeliveryFailed("the process died here")


@in_each_store
def test_a_crash_before_the_table_was_written_loses_nothing(world: World, store: str) -> None:
    """What Kafka has acknowledged is restored, though the table never saw it."""

    async def body() -> None:
        async with running(world, store) as run:
            await run.table.save(0, [(b"a", state(1))])
        async with running(world, store, producer=DiesAfterAcknowledgement(world.servers)) as run:
            with pytest.raises(DeliveryFailed):
                await run.table.save(0, [(b"a", state(2)), (b"b", state(1))])
            assert run.states == {b"a": state(1)}
        async with running(world, store) as run:
            assert run.states == {b"a": state(2), b"b": state(1)}

    run_async(body())


def test_nothing_is_applied_that_kafka_did_not_take(world: World) -> None:
    """A failed send leaves the table as it was."""

    async def body() -> None:
        async with running(world) as run:
            await run.table.save(0, [(b"a", state(1))])
            await run.producer.stop()
            with pytest.raises(DeliveryFailed):
                await run.table.save(0, [(b"a", state(2))])
            assert run.states == {b"a": state(1)}

    run_async(body())


def test_a_seq_never_goes_back(world: World) -> None:
    """A lower seq, or a new saga below its own tombstone, is refused before anything is sent."""

    async def body() -> None:
        async with running(world) as run:
            await run.table.save(0, [(b"a", state(3)), (b"b", state(4))])
            await run.table.save(0, [(b"a", state(3)), (b"b", None), (b"b", None), (b"unknown", None)])
            sent = len(world.log())
            assert sent == 4
            assert run.table.forgotten_seq(b"b", 0) == 4
            for items in [
                [(b"c", state(1)), (b"a", state(2))],
                [(b"b", state(4))],
                [(b"a", state(5)), (b"a", state(4))],
            ]:
                with pytest.raises(ProtocolViolation, match="seq"):
                    await run.table.save(0, items)
            assert len(world.log()) == sent
            await run.table.save(0, [(b"b", state(5))])
            assert run.table.get(b"b", 0) == state(5)
            assert run.table.forgotten_seq(b"b", 0) is None

    run_async(body())


CHILD = """
import asyncio, sys
sys.path.insert(0, {folder!r})
from test_table import World, running, state
from pathlib import Path

async def main():
    world = World({servers!r}, Path({data!r}), {sagas!r}, {events!r})
    async with running(world, {store!r}) as run:
        for seq in range(1, 60):
            items = [(b"job-%d" % number, state(seq)) for number in range(200)]
            await run.table.save(0, items)
            print(seq, run.table.known_offset(0), flush=True)

asyncio.run(main())
"""


@in_each_store
def test_a_killed_process_continues(world: World, store: str) -> None:
    """After kill -9 every saved state is there; RocksDB goes on from its offset without the log before it."""
    script = CHILD.format(
        folder=str(Path(__file__).parent),
        servers=world.servers,
        data=str(world.folder),
        sagas=world.sagas,
        events=world.events,
        store=store,
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(20)]
        child.kill()
    seq, offset = map(int, lines[-1].split())
    if store == "rocksdb":
        world.delete_before(offset + 1)

    async def body() -> None:
        async with running(world, store) as run:
            assert len(run.states) == 200
            assert all(value >= state(seq) for value in run.states.values())
            assert {record.key: record.value for record in world.log()}.items() <= run.states.items()

    run_async(body())


def test_a_store_ahead_of_its_topic_is_refused(world: World) -> None:
    """A topic that was made anew under an old database stops the app, and the message says what to delete."""

    async def body() -> None:
        async with running(world, "rocksdb") as run:
            await run.table.save(0, [(b"a", state(1)), (b"b", state(1))])
        anew = World(world.servers, world.folder)
        anew.create()
        async with serving(new_app(anew, "rocksdb")) as run:
            assert await run.end() == 1
            assert isinstance(run.app.crash_reason, ConfigurationError)
            assert f"Delete the folder {run.app.conf.tabledir}" in str(run.app.crash_reason)

    run_async(body())


@in_each_store
def test_compaction_leaves_what_is_restored(kafka: EmbeddedKafka, tmp_path: Path, store: str) -> None:
    """Holes in the offsets, before the start and in between, change nothing."""
    world = World(kafka.bootstrap_servers, tmp_path)
    world.create(**{"min.cleanable.dirty.ratio": "0.01", "segment.ms": "50", "delete.retention.ms": "0"})

    async def body() -> None:
        async with running(world, store) as run:
            for seq in range(1, 60):
                await run.table.save(0, [(b"job-%d" % number, state(seq)) for number in range(5)])
            await run.table.save(0, [(b"job-4", None)])
            give_up = time.monotonic() + 60
            while True:
                # A segment is only rolled, and then cleaned, by a write after its time.
                await run.table.save(0, [(b"clock", state(1))])
                if len(world.log()) < 60:
                    break
                assert time.monotonic() < give_up, "compaction took over 60 s"
                await asyncio.sleep(0.1)
            expected = run.states
        assert set(expected) == {b"job-0", b"job-1", b"job-2", b"job-3", b"clock"}
        for folder in ("data", "another"):
            async with running(world, store, folder=folder) as run:
                assert run.states == expected

    run_async(body())


def test_a_second_process_takes_over_half(world: World) -> None:
    """Partitions move with their states: the old owner tells that they go, and refuses them from then on."""

    async def body() -> None:
        async with running(world, group="shared", folder="one") as one:
            await one.table.save(0, [(b"a", state(1)), (b"a", state(2))])
            await one.table.save(1, [(b"b", state(1))])
            async with running(world, group="shared", folder="two") as two:
                await until(lambda: len(one.states) == len(two.states) == 1, "taking over")
                assert one.states | two.states == {b"a": state(2), b"b": state(1)}
                gone = next(p for p in range(PARTITIONS) if two.has(p))
                assert one.revoked == [gone]
                with pytest.raises(PartitionNotHeld):
                    one.table.get(b"a", gone)
                with pytest.raises(PartitionNotHeld):
                    await one.table.save(gone, [(b"c", state(1))])
                await two.table.save(gone, [(b"c", state(1))])
            await until(lambda: len(one.states) == 3, "taking back")
            assert one.restored[-1][0] == gone
            assert one.table.get(b"c", gone) == state(1)
            # The partition that stayed was read again, found unchanged, and not announced a second time.
            assert [partition for partition, _ in one.restored].count(1 - gone) == 1

    run_async(body())


def test_a_rebalance_interrupts_the_restoring(world: World) -> None:
    """A process that joins while another one restores: both end up with the right half."""

    async def body() -> None:
        await world.write(*[(b"a%d" % n, state(1)) for n in range(100)])
        await world.write(*[(b"b%d" % n, state(1)) for n in range(100)], partition=1)
        one, reached, go_on = new_app(world, group="shared", folder="one"), threading.Event(), threading.Event()
        absorb = one.table.absorb

        def slowly(*arguments: Any) -> None:
            reached.set()
            go_on.wait(30)
            absorb(*arguments)

        one.table.absorb = slowly  # type: ignore[assignment,method-assign]  # a gate before the real one
        async with serving(one):
            await until(reached.is_set, "reading")
            async with serving(new_app(world, group="shared", folder="two")) as two:
                seen = one.app.tables["sagas"]
                assert isinstance(seen, FaustSagaTable)
                await until(seen.recovery._restored._stop.is_set, "the rebalance")
                go_on.set()
                await until(lambda: len(one.states) == len(two.states) == 100, "restoring")
                assert len(one.states | two.states) == 200
                assert len(one.restored) == len(two.restored) == 1

    run_async(body())


@in_each_store
def test_a_standby_takes_over(world: World, store: str) -> None:
    """With standby replicas a takeover holds what was saved last, and needs no log for it."""

    async def body() -> None:
        options: dict[str, Any] = {"group": "shared", "standbys": 1}
        async with running(world, store, folder="one", **options) as one:
            await one.table.save(0, [(b"a", state(1))])
            await one.table.save(1, [(b"b", state(1))])
            async with running(world, store, folder="two", **options) as two:
                await until(lambda: len(one.states) == len(two.states) == 1, "taking over")
                for run in (one, two):
                    partition = next(p for p in range(PARTITIONS) if run.has(p))
                    key = next(iter(run.states))
                    await run.table.save(
                        partition, [(key, state(2)), (key, state(3)), (b"new-%d" % partition, state(1))]
                    )
                ends = [world.log(partition)[-1].offset for partition in range(PARTITIONS)]
                await until(lambda: known(one) == known(two) == ends, "following")
                for partition, end in enumerate(ends):
                    world.delete_before(end + 1, partition)
            expected = {b"a": state(3), b"b": state(3), b"new-0": state(1), b"new-1": state(1)}
            await until(lambda: len(one.states) == 4, "taking back")
            assert one.states == expected

    def known(run: Running) -> list[int | None]:
        return [run.table.known_offset(partition) for partition in range(PARTITIONS)]

    run_async(body())


def test_a_partition_that_comes_back_unchanged_is_announced_again(world: World) -> None:
    """What was derived from it was thrown away when it went: a standby that is idle meanwhile must tell of it anew."""

    async def body() -> None:
        options = {"group": "shared", "standbys": 1}
        async with running(world, folder="one", **options) as one:
            await one.table.save(0, [(b"a", state(1))])
            await one.table.save(1, [(b"b", state(1))])
            async with running(world, folder="two", **options) as two:
                await until(lambda: len(one.states) == len(two.states) == 1, "taking over")
                (gone,) = one.revoked
                told = len(one.restored)
            await until(lambda: len(one.states) == 2, "taking back")
            assert (gone, dict(one.table.items(gone))) in one.restored[told:]

    run_async(body())
