"""The coordinator's table of saga states: written in bulk, restored by highest seq.

A state is in the table only once Kafka has acknowledged it in the changelog, so whatever the table says is public. Its
values are Avro single-object encoded SagaStates; of their content the table reads only `peek`.

Who owns which partition is decided elsewhere: processors/transport drives this table by Faust's rebalances, the simulator
by its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from processors.errors import ConfigurationError
from processors.kafka.publish import Sender
from processors.saga_table.changelog import ChangelogEntry
from processors.saga_table.changelog_reader import ReadFailed
from processors.saga_table.fencing import FencingWatch
from processors.saga_table.partition import SagaPartition
from processors.saga_table.store import MemoryStates, PartitionNotHeld, RocksDBStates, SagaStore

OnRestored = Callable[[int, Iterable[tuple[bytes, bytes]]], None]
OnRevoked = Callable[[int], None]

_log = logging.getLogger(__name__)


def open_store(store: str, folder: Path) -> SagaStore:
    """Return the store that a URL names; one on disk keeps its databases in the folder. Raises ConfigurationError."""
    match store.partition(":")[0]:
        case "memory":
            return MemoryStates()
        case "rocksdb":
            return RocksDBStates(folder)
        case _:
            raise ConfigurationError(f"The saga table can't be kept in {store}: use memory:// or rocksdb://.")


class SagaTable:
    """Saga states by job_id, partition by partition.

    Read it by get(), items() and len(), write it by save(), from anywhere.

    `on_restored(partition, items)` is called when a partition is ready, before its events are delivered, and again
    whenever restoring changed it: what was derived from it before has to be thrown away. `on_revoked(partition)` is
    called when an announced partition goes to another process, or is only a standby from then on.
    """

    def __init__(
        self,
        topic: str,
        store: SagaStore,
        producer: Sender,
        *,
        owned: Callable[[], Collection[int]],
        client: Mapping[str, str | int | bool] | None = None,
        watch: FencingWatch | None = None,
        on_restored: OnRestored | None = None,
        on_revoked: OnRevoked | None = None,
        patience: timedelta = timedelta(seconds=30),
    ) -> None:
        """`client`: librdkafka's `bootstrap.servers` and security. `patience`: how long another writer may be ahead.
        `owned`: the partitions that are assigned to this process now, but for standbys.
        """
        self.topic = topic
        self.store = store
        self.client = client or {}
        self._producer = producer
        self._owned = owned
        self._on_restored = on_restored
        self._on_revoked = on_revoked
        self._watch = watch or FencingWatch(topic, self.client, patience=patience)
        self._partitions: dict[int, SagaPartition] = {}

    # -- reading and writing

    def get(self, key: bytes, partition: int) -> bytes | None:
        """The state of a saga, None if there is none; PartitionNotHeld."""
        return self.store.look_up(partition, key)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and state of a partition; don't save while you iterate. PartitionNotHeld."""
        return self.store.scan(partition)

    def __len__(self) -> int:
        return sum(map(self.store.count, self.active))

    @property
    def active(self) -> list[int]:
        """The partitions that are restored and announced."""
        return [number for number, partition in self._partitions.items() if partition.active]

    def forgotten_seq(self, key: bytes, partition: int) -> int | None:
        """The seq above which a saga of a forgotten job must begin; None if the job was not forgotten."""
        return self._held(partition).forgotten_seq(key)

    async def save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Publish states (None: forget a saga), and apply them when Kafka has acknowledged all.

        Forgetting what isn't there does nothing. Raises DeliveryFailed, ReadFailed, OwnershipLost: the process has to stop;
        PartitionNotHeld if the partition was revoked, and then the states may be published nevertheless;
        ProtocolViolation, with nothing sent, if a seq goes back.
        """
        await self._held(partition).save(items)

    # -- restoring

    def known_offset(self, partition: int) -> int | None:
        """The offset up to which the table has the states of the log; None if it has none."""
        return self._held_or_new(partition).known_offset

    async def restoring(self, partitions: Iterable[int]) -> AsyncExitStack:
        """Wait for running writes, and block new ones until the returned stack is closed."""
        # All at once: while this waits for one partition, a rebalance may revoke another, which must not be opened again.
        holding = [self._held_or_new(number) for number in sorted(partitions)]
        async with AsyncExitStack() as stack:
            for held in holding:
                await stack.enter_async_context(held.lock)
                held.active = False
            return stack.pop_all()

    def absorb(self, partition: int, changes: Sequence[ChangelogEntry], last: int) -> None:
        """Apply records of the log up to the offset `last`; called from a thread while restoring()."""
        self._held_or_new(partition).absorb(changes, last)

    def trim(self, partitions: Iterable[int]) -> None:
        """Limit the memory of forgotten sagas, after restoring() has read to the end."""
        for number in partitions:
            self._held(number).trim()

    async def announce(self, partition: int) -> None:
        """Repair the log, then announce the partition as ready.

        Raises DeliveryFailed, and PartitionNotHeld when a rebalance was faster.
        """
        held = self._held(partition)
        await held.repair()
        if partition not in self._owned():
            raise PartitionNotHeld(partition)
        held.active = True
        if held.changed and self._on_restored is not None:
            self._on_restored(partition, self.store.scan(partition))
        held.changed = False

    # -- a rebalance

    def hold(self, partition: int) -> None:
        """Open a partition that was assigned; an error of the store if another process has it open."""
        self._held_or_new(partition)

    def release(self, kept: Collection[int]) -> None:
        """Drop partitions that are revoked, or are only standbys now; the others are restored again."""
        owned = self._owned()
        for number, held in list(self._partitions.items()):
            if number not in owned and held.active:
                # If the partition comes back, everything that is derived from it must be rebuilt.
                held.changed = True
                if self._on_revoked is not None:
                    self._on_revoked(number)
            held.active = False
            if number not in kept:
                self._partitions.pop(number).drop()

    async def fence_other_writers(self) -> None:
        """Examine every partition up to its end; OwnershipLost, DeliveryFailed."""
        for held in list(self._partitions.values()):
            try:
                await held.fence_other_writers()
            except PartitionNotHeld:
                continue
            except ReadFailed as error:
                # Kafka is down. A later examination loses nothing, and save() fails by itself.
                _log.warning("Cannot look for foreign writes: %s", error)

    async def close(self) -> None:
        """Close the connection that looks for foreign writes, and every partition."""
        await self._watch.close()
        for number in list(self._partitions):
            self._partitions.pop(number).drop()

    def _held(self, partition: int) -> SagaPartition:
        try:
            return self._partitions[partition]
        except KeyError:
            raise PartitionNotHeld(partition) from None

    def _held_or_new(self, partition: int) -> SagaPartition:
        held = self._partitions.get(partition)
        if held is None:
            held = SagaPartition(partition, self.topic, self.store, self._producer, self._watch)
            self._partitions[partition] = held
        return held
