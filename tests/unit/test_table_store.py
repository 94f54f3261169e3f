"""The stores of the saga table: memory and RocksDB hold the same, and RocksDB keeps it with its offset."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest
from faust.types import TP

from processors.errors import ConfigurationError
from processors.kafka.producer import Producer
from processors.saga_table.changelog import ChangelogEntry, ChangelogMemory
from processors.saga_table.store import PartitionNotHeld, SagaStore, is_locked
from processors.saga_table.table import SagaTable, open_store
from processors.transport import saga_table
from processors.transport.recovery import add_saga_table


def state(seq: int, rest: bytes = b"rest") -> bytes:
    return b"\xc3\x01fingerpr" + bytes([2 * seq, 0, 2]) + rest


@pytest.fixture(params=["memory://", "rocksdb://"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SagaStore]:
    made = open_store(request.param, tmp_path)
    yield made
    for partition in range(3):
        made.drop(partition)


def some_changes(random: Random, count: int) -> list[ChangelogEntry]:
    return [
        (b"job-%d" % random.randrange(20), state(seq) if random.random() < 0.8 else None, seq)
        for seq in (random.randrange(1, 60) for _ in range(count))
    ]


def test_both_stores_hold_the_same(tmp_path: Path) -> None:
    """Whatever is applied, in whatever pieces, memory and RocksDB agree on states, count, graves and stale keys."""
    random = Random(7)
    memory_store = open_store("memory://", tmp_path)
    rocks = open_store("rocksdb://", tmp_path)
    for partition in range(2):
        memory_store.hold(partition)
        rocks.hold(partition)
        rocks.count(partition)
        ours, theirs = ChangelogMemory(), ChangelogMemory()
        for turn in range(30):
            changes = some_changes(random, random.randrange(8))
            memory_store.fold(partition, ours, changes, turn)
            rocks.fold(partition, theirs, changes, turn)
            assert dict(memory_store.scan(partition)) == dict(rocks.scan(partition))
            assert memory_store.count(partition) == rocks.count(partition) == len(dict(rocks.scan(partition)))
            assert (ours.graves, ours.stale) == (theirs.graves, theirs.stale)
        assert rocks.kept_offset(partition) == 29
        rocks.drop(partition)


def test_partitions_are_apart(store: SagaStore) -> None:
    """A key of one partition is not in another."""
    store.hold(0)
    store.hold(1)
    store.fold(0, ChangelogMemory(), [(b"a", state(1), -1)], 0)
    assert store.look_up(0, b"a") == state(1)
    assert store.look_up(1, b"a") is None
    assert store.load(0, [b"a", b"b"]) == {b"a": state(1)}


def test_a_partition_that_is_not_held_is_refused(store: SagaStore) -> None:
    """Asking for a revoked partition is an error, not an absent saga."""
    store.hold(0)
    store.drop(0)
    with pytest.raises(PartitionNotHeld, match="Partition 0"):
        store.look_up(0, b"a")
    with pytest.raises(PartitionNotHeld):
        store.load(0, [b"a"])
    with pytest.raises(PartitionNotHeld):
        store.scan(0)


def faust_app(folder: Path, owned: set[int]) -> faust.App:
    app = faust.App("test", broker="kafka://127.0.0.1:1", datadir=folder, autodiscover=False, store="memory://")
    assignor = SimpleNamespace(assigned_actives=lambda: {TP("scrape.sagas", number) for number in owned})
    # A cached property, whose real one has its say from the group's leader.
    app.assignor = cast(Any, assignor)
    return app


async def test_people_see_a_faust_table(tmp_path: Path) -> None:
    """The table reads like any Faust table, over all announced partitions, and refuses Faust's ways of writing."""
    app = faust_app(tmp_path, {0, 1})
    sagas = add_saga_table(app, producer=Producer("127.0.0.1:1"), client={})
    for partition in range(3):
        sagas.absorb(partition, [(b"%d" % partition, state(1), -1)], 0)
    for partition in range(2):
        await sagas.announce(partition)
    # Any: Faust names no more of a table than that it is a collection.
    table: Any = app.tables["sagas"]
    assert table[b"1"] == state(1)
    # Restored as a standby, and not owned.
    assert b"2" not in table
    assert list(table) == [b"0", b"1"]
    assert len(table) == len(sagas) == 2
    with pytest.raises(TypeError, match="save"):
        table[b"a"] = state(2)
    with pytest.raises(TypeError, match="save"):
        del table[b"a"]
    with pytest.raises(TypeError, match="save"):
        table.update({b"a": state(2)})
    with pytest.raises(TypeError, match="forget"):
        table.clear()


async def test_a_locked_database_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends on the same machine keeps its lock for a moment; any other error stops this one."""
    monkeypatch.setattr(saga_table, "_LOCKED_POLL_S", 0.01)
    app = faust_app(tmp_path, {0})
    add_saga_table(app, producer=Producer("127.0.0.1:1"), client={})
    # Any: Faust names no more of a table than that it is a collection.
    table: Any = app.tables["sagas"]
    assert isinstance(table, saga_table.FaustSagaTable)
    ends = [Exception("While lock file: LOCK: Resource temporarily unavailable")] * 3
    held: list[int] = []

    def hold(partition: int) -> None:
        if ends:
            raise ends.pop()
        held.append(partition)

    monkeypatch.setattr(table.sagas, "hold", hold)
    await table._open(0, app.consumer_generation_id)
    assert held == [0]
    ends.append(OSError("no space left on device"))
    with pytest.raises(OSError, match="no space"):
        await table._open(0, app.consumer_generation_id)


def test_a_locked_database_is_known_as_such(tmp_path: Path) -> None:
    """RocksDB refuses a second opening, and is_locked() tells that from other failures."""
    first, second = open_store("rocksdb://", tmp_path), open_store("rocksdb://", tmp_path)
    first.hold(0)
    with pytest.raises(Exception, match="lock") as refused:
        second.hold(0)
    assert is_locked(refused.value)
    assert not is_locked(OSError("no space left on device"))
    first.drop(0)
    second.hold(0)
    second.drop(0)


def test_rocksdb_comes_back_with_its_offset(tmp_path: Path) -> None:
    """A database that is opened again has its states and the offset that was written with them, and no more."""
    first = open_store("rocksdb://", tmp_path)
    first.hold(2)
    assert first.kept_offset(2) is None
    first.fold(2, ChangelogMemory(), [(b"a", state(1), -1), (b"b", state(1), -1)], 41)
    first.fold(2, ChangelogMemory(), [(b"b", None, 1)], None)
    first.drop(2)
    second = open_store("rocksdb://", tmp_path)
    second.hold(2)
    assert dict(second.scan(2)) == {b"a": state(1)}
    assert (second.count(2), second.kept_offset(2)) == (1, 41)
    second.drop(2)


def test_an_unknown_store_is_refused(tmp_path: Path) -> None:
    """The message names the stores that there are."""
    with pytest.raises(ConfigurationError, match="memory:// or rocksdb://"):
        open_store("aerospike://", tmp_path)


def test_nothing_is_saved_into_a_partition_that_is_not_held(tmp_path: Path) -> None:
    """save() refuses before it sends."""
    table = SagaTable("sagas", open_store("memory://", tmp_path), Producer("127.0.0.1:1"), owned=lambda: {0})
    with pytest.raises(PartitionNotHeld):
        asyncio.run(table.save(0, [(b"a", state(1))]))
