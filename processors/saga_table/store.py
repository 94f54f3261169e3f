"""Where the saga table keeps its partitions: Faust's memory and RocksDB stores, a dict or a database per partition."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from faust.stores import memory, rocksdb
from faust.types import TP, CollectionT
from rocksdict import Rdict, WriteBatch

from processors.errors import ScrapesagaError
from processors.saga_table.changelog import ChangelogEntry, ChangelogMemory, fold

# Faust's defaults are made for one large table: a block cache of 2 GB and write buffers of 192 MB, for each partition.
ROCKSDB_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "driver": "rocksdict",
        "block_cache_size": 32 * 1024 * 1024,
        "write_buffer_size": 16 * 1024 * 1024,
        "target_file_size_base": 32 * 1024 * 1024,
    }
)


class PartitionNotHeld(ScrapesagaError):
    """The table doesn't hold this partition: it was revoked, or is not restored yet."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"Partition {partition} of the saga table is not held by this process.")


class SagaStore(Protocol):
    """Saga states by partition, with the offset up to which each partition holds what the log says."""

    def hold(self, partition: int) -> None:
        """Make the partition usable."""

    def drop(self, partition: int) -> None:
        """Let go of the partition; what is on disk stays there."""

    def look_up(self, partition: int, key: bytes) -> bytes | None:
        """The state under `key`; PartitionNotHeld."""

    def load(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The states that there are under `keys`; PartitionNotHeld."""

    def fold(
        self, partition: int, memory: ChangelogMemory, changes: Sequence[ChangelogEntry], offset: int | None
    ) -> None:
        """Apply records of the log and keep `offset`, if given, both or none of it; PartitionNotHeld."""

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and state; PartitionNotHeld."""

    def count(self, partition: int) -> int:
        """How many states there are; PartitionNotHeld."""

    def kept_offset(self, partition: int) -> int | None:
        """The offset that was kept on disk; None in memory."""


class MemoryStates:
    """States in memory, a dict a partition: every promise of SagaStore, without Faust."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._partitions: dict[int, dict[bytes, bytes]] = {}
        super().__init__(*args, **options)

    def hold(self, partition: int) -> None:
        """Make the partition usable."""
        self._partitions.setdefault(partition, {})

    def drop(self, partition: int) -> None:
        """Let go of the partition."""
        self._partitions.pop(partition, None)

    def look_up(self, partition: int, key: bytes) -> bytes | None:
        """The state under `key`; PartitionNotHeld."""
        return self._states(partition).get(key)

    def load(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The states that there are under `keys`; PartitionNotHeld."""
        states = self._states(partition)
        return {key: states[key] for key in keys if key in states}

    def fold(
        self, partition: int, memory: ChangelogMemory, changes: Sequence[ChangelogEntry], offset: int | None
    ) -> None:
        """Apply records of the log; PartitionNotHeld."""
        fold(self._states(partition), memory, changes)

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and state; PartitionNotHeld."""
        return iter(self._states(partition).items())

    def count(self, partition: int) -> int:
        """How many states there are; PartitionNotHeld."""
        return len(self._states(partition))

    def kept_offset(self, partition: int) -> int | None:
        """Nothing is kept on disk."""
        return None

    def _states(self, partition: int) -> dict[bytes, bytes]:
        try:
            return self._partitions[partition]
        except KeyError:
            raise PartitionNotHeld(partition) from None


class MemoryStore(MemoryStates, memory.Store[bytes, bytes]):
    """The same as a store of Faust's."""

    def __post_init__(self) -> None:
        """Nothing: Faust's would make the one dict that `data` is here."""

    # Read by the mapping that Faust shows to people. The table writes by fold().
    @property
    def data(self) -> MutableMapping[bytes, bytes]:  # type: ignore[override]  # an attribute there, computed here
        return ChainMap(*self._partitions.values())

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Nothing: partitions are dropped when they are revoked."""


class RocksDBStore(rocksdb.Store):
    """A RocksDB per partition; what was applied and its offset are written in one batch, to the write-ahead log.

    Nothing is synced to the disk: a crash of the machine may lose the end, and the offset with it, and the log has
    both.
    """

    def __post_init__(self) -> None:
        self._counts: dict[int, int] = {}

    def hold(self, partition: int) -> None:
        self._db_for_partition(partition)

    def drop(self, partition: int) -> None:
        self._counts.pop(partition, None)
        db = self._dbs.pop(partition, None)
        if db is not None:
            # Faust waits for the garbage collector; the next owner on this machine needs the lock now.
            db.close()

    def look_up(self, partition: int, key: bytes) -> bytes | None:
        found: bytes | None = self._db(partition).get(key)
        return found

    def load(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        # Its stubs leave out that a list of bytes is answered by a list.
        found: list[bytes | None] = self._db(partition).get(wanted)  # type: ignore[arg-type, assignment]
        return {key: value for key, value in zip(wanted, found, strict=True) if value is not None}

    def fold(
        self, partition: int, memory: ChangelogMemory, changes: Sequence[ChangelogEntry], offset: int | None
    ) -> None:
        keys = {key for key, _, _ in changes}
        before = self.load(partition, keys)
        after = dict(before)
        fold(after, memory, changes)
        batch = WriteBatch(raw_mode=True)
        for key in keys:
            value = after.get(key)
            if value is None and key in before:
                batch.delete(key)
            elif value is not None and value is not before.get(key):
                batch.put(key, value)
        if offset is not None:
            batch.put(self.offset_key, b"%d" % offset)
        self._db(partition).write(batch)
        if partition in self._counts:
            self._counts[partition] += len(after) - len(before)

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        return self._visible_items(self._db(partition))

    def count(self, partition: int) -> int:
        if partition not in self._counts:
            self._counts[partition] = self._size1(self._db(partition))
        return self._counts[partition]

    def kept_offset(self, partition: int) -> int | None:
        kept = self._db(partition).get(self.offset_key)
        return None if kept is None else int(kept)

    def revoke_partitions(self, table: CollectionT, tps: set[TP]) -> None:
        """Close the databases of the partitions that go."""
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                self.drop(tp.partition)

    async def stop(self) -> None:
        """Close every database."""
        for partition in list(self._dbs):
            self.drop(partition)

    def _db(self, partition: int) -> Rdict:
        try:
            db: Rdict = self._dbs[partition]
        except KeyError:
            raise PartitionNotHeld(partition) from None
        return db
