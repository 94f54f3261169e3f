"""The stores of the saga table: memory and RocksDB hold the same, and RocksDB keeps it with its offset."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import faust
import pytest

from processors.errors import ConfigurationError
from processors.kafka.producer import Producer
from processors.saga_table.changelog import ChangelogEntry, ChangelogMemory
from processors.saga_table.store import MemoryStore, PartitionNotHeld, RocksDBStore
from processors.saga_table.table import SagaTable


def state(seq: int, rest: bytes = b"rest") -> bytes:
    return b"\xc3\x01fingerpr" + bytes([2 * seq, 0, 2]) + rest


def new_table(folder: Path, store: str) -> SagaTable:
    app = faust.App("test", broker="kafka://127.0.0.1:1", datadir=folder, autodiscover=False, store=store)
    topic = app.topic("scrape.sagas", key_type=bytes, value_type=bytes)
    return SagaTable(app, name="sagas", changelog_topic=topic, producer=Producer("127.0.0.1:1"), client={})


@pytest.fixture(params=[MemoryStore, RocksDBStore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore | RocksDBStore]:
    kind = request.param
    made = new_table(tmp_path, "memory://" if kind is MemoryStore else "rocksdb://").data
    assert isinstance(made, kind)
    yield made
    if isinstance(made, RocksDBStore):
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
    memory_store = new_table(tmp_path, "memory://").store
    rocks = new_table(tmp_path, "rocksdb://").store
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


def test_partitions_are_apart(store: MemoryStore | RocksDBStore) -> None:
    """A key of one partition is not in another."""
    store.hold(0)
    store.hold(1)
    store.fold(0, ChangelogMemory(), [(b"a", state(1), -1)], 0)
    assert store.look_up(0, b"a") == state(1)
    assert store.look_up(1, b"a") is None
    assert store.load(0, [b"a", b"b"]) == {b"a": state(1)}


def test_a_partition_that_is_not_held_is_refused(store: MemoryStore | RocksDBStore) -> None:
    """Asking for a revoked partition is an error, not an absent saga."""
    store.hold(0)
    store.drop(0)
    with pytest.raises(PartitionNotHeld, match="Partition 0"):
        store.look_up(0, b"a")
    with pytest.raises(PartitionNotHeld):
        store.load(0, [b"a"])
    with pytest.raises(PartitionNotHeld):
        store.scan(0)


def test_people_see_a_faust_table(tmp_path: Path) -> None:
    """The table reads like any Faust table, over all partitions, and refuses Faust's ways of writing."""
    table = new_table(tmp_path, "memory://")
    table.store.hold(0)
    table.store.hold(1)
    table.store.fold(1, ChangelogMemory(), [(b"a", state(1), -1)], 0)
    assert table[b"a"] == state(1)
    assert b"b" not in table
    assert list(table) == [b"a"]
    with pytest.raises(TypeError, match="save"):
        table[b"a"] = state(2)
    with pytest.raises(TypeError, match="save"):
        del table[b"a"]
    with pytest.raises(TypeError, match="save"):
        table.update({b"a": state(2)})
    with pytest.raises(TypeError, match="forget"):
        table.clear()


def test_rocksdb_comes_back_with_its_offset(tmp_path: Path) -> None:
    """A database that is opened again has its states and the offset that was written with them, and no more."""
    first = new_table(tmp_path, "rocksdb://").store
    first.hold(2)
    assert first.kept_offset(2) is None
    first.fold(2, ChangelogMemory(), [(b"a", state(1), -1), (b"b", state(1), -1)], 41)
    first.fold(2, ChangelogMemory(), [(b"b", None, 1)], None)
    first.drop(2)
    second = new_table(tmp_path, "rocksdb://").store
    second.hold(2)
    assert dict(second.scan(2)) == {b"a": state(1)}
    assert (second.count(2), second.kept_offset(2)) == (1, 41)
    second.drop(2)


def test_an_unknown_store_is_refused(tmp_path: Path) -> None:
    """The message names the stores that there are."""
    with pytest.raises(ConfigurationError, match="memory:// or rocksdb://"):
        _ = new_table(tmp_path, "aerospike://").data


def test_nothing_is_saved_into_a_partition_that_is_not_held(tmp_path: Path) -> None:
    """save() refuses before it sends."""
    table = new_table(tmp_path, "memory://")
    with pytest.raises(PartitionNotHeld):
        asyncio.run(table.save(0, [(b"a", state(1))]))
