"""Where the saga table keeps its partitions: a dict or a RocksDB per partition."""

from __future__ import annotations

import resource
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from processors.errors import ScrapesagaError
from processors.saga_table.changelog import ChangelogEntry, ChangelogMemory, fold

_MIB = 1024 * 1024
# The name that Faust's store uses, so that its databases can still be read.
_OFFSET_KEY = b"__faust\0offset__"


class PartitionNotHeld(ScrapesagaError):
    """The table doesn't hold this partition: it was revoked, or is not restored yet."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"Partition {partition} of the saga table is not held by this process.")


class SagaStore(Protocol):
    """Saga states by partition, with the offset up to which each partition has the states of the log."""

    folder: Path | None
    """The folder on disk; None in memory."""

    def hold(self, partition: int) -> None:
        """Make the partition usable."""

    def drop(self, partition: int) -> None:
        """Drop the partition; its data on disk stays."""

    def look_up(self, partition: int, key: bytes) -> bytes | None:
        """The state under `key`; PartitionNotHeld."""

    def load(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The states that there are under `keys`; PartitionNotHeld."""

    def fold(
        self, partition: int, memory: ChangelogMemory, changes: Sequence[ChangelogEntry], offset: int | None
    ) -> None:
        """Apply records of the log and store `offset`, if given, atomically; PartitionNotHeld."""

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and state; PartitionNotHeld."""

    def count(self, partition: int) -> int:
        """How many states there are; PartitionNotHeld."""

    def kept_offset(self, partition: int) -> int | None:
        """The offset that is stored on disk; None in memory."""


class MemoryStates:
    """States in memory, a dict a partition."""

    folder: Path | None = None

    def __init__(self) -> None:
        self._partitions: dict[int, dict[bytes, bytes]] = {}

    def hold(self, partition: int) -> None:
        """Make the partition usable."""
        self._partitions.setdefault(partition, {})

    def drop(self, partition: int) -> None:
        """Drop the partition."""
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


class RocksDBStates:
    """A RocksDB per partition; what was applied and its offset are written in one batch, to the write-ahead log.

    Nothing is synced to the disk: a crash of the machine may lose the end, and the offset with it, and the log has
    both.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        self._folder = folder
        self._dbs: dict[int, Rdict] = {}
        self._counts: dict[int, int] = {}

    def hold(self, partition: int) -> None:
        """Open the partition's database. Raises an error of RocksDB while another process has it open: see is_locked()."""
        if partition not in self._dbs:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._dbs[partition] = Rdict(str(self._folder / f"sagas-{partition}.db"), _options())

    def drop(self, partition: int) -> None:
        """Close the database: the next owner on this machine needs its lock now."""
        self._counts.pop(partition, None)
        db = self._dbs.pop(partition, None)
        if db is not None:
            db.close()

    def look_up(self, partition: int, key: bytes) -> bytes | None:
        """The state under `key`; PartitionNotHeld."""
        found: bytes | None = self._db(partition).get(key)
        return found

    def load(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The states that there are under `keys`; PartitionNotHeld."""
        wanted = list(keys)
        # The stubs do not say that a list of keys returns a list.
        found: list[bytes | None] = self._db(partition).get(wanted)  # type: ignore[arg-type, assignment]
        return {key: value for key, value in zip(wanted, found, strict=True) if value is not None}

    def fold(
        self, partition: int, memory: ChangelogMemory, changes: Sequence[ChangelogEntry], offset: int | None
    ) -> None:
        """Apply records of the log and store `offset`, if given, atomically; PartitionNotHeld."""
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
            batch.put(_OFFSET_KEY, b"%d" % offset)
        self._db(partition).write(batch)
        if partition in self._counts:
            self._counts[partition] += len(after) - len(before)

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and state; PartitionNotHeld."""
        return ((key, value) for key, value in self._db(partition).items() if key != _OFFSET_KEY)  # type: ignore[misc]

    def count(self, partition: int) -> int:
        """How many states there are; PartitionNotHeld."""
        if partition not in self._counts:
            self._counts[partition] = sum(1 for key in self._db(partition).keys() if key != _OFFSET_KEY)  # noqa: SIM118 - no dict
        return self._counts[partition]

    def kept_offset(self, partition: int) -> int | None:
        """The offset that is stored on disk."""
        kept = self._db(partition).get(_OFFSET_KEY)
        return None if kept is None else int(kept)

    def _db(self, partition: int) -> Rdict:
        try:
            return self._dbs[partition]
        except KeyError:
            raise PartitionNotHeld(partition) from None


def is_locked(error: Exception) -> bool:
    """Return whether hold() failed because another process has the database open."""
    return "lock" in repr(error)


def _options() -> Options:
    # The defaults of RocksDB and Faust are for one large table: write buffers of 192 MB, a block cache of 2 GB.
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # A database keeps its files open; all partitions together must stay below the limit of the process.
    options.set_max_open_files(_max_open_files())
    options.set_write_buffer_size(16 * _MIB)
    options.set_max_write_buffer_number(3)
    options.set_target_file_size_base(32 * _MIB)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(3, block_based=True)
    blocks.set_block_cache(Cache(32 * _MIB))
    options.set_block_based_table_factory(blocks)
    return options


def _max_open_files() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return -1 if most == resource.RLIM_INFINITY else int(most * 0.9)
