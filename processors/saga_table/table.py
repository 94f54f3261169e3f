"""The coordinator's table of saga states: a Faust table that is written in bulk and restored by highest seq.

A state is in the table only once Kafka has acknowledged it in the changelog, so whatever the table says is public. Its
values are Avro single-object encoded SagaStates; of their content the table reads only `peek`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, NoReturn, cast

import faust
from faust.types import TP, AppT, EventT
from mode import Service
from yarl import URL

from processors.errors import ConfigurationError
from processors.kafka.producer import Producer
from processors.saga_table.changelog import ChangelogEntry, peek, seq_in
from processors.saga_table.changelog_reader import ReadFailed
from processors.saga_table.fencing import FencingWatch
from processors.saga_table.partition import SagaPartition
from processors.saga_table.store import ROCKSDB_OPTIONS, MemoryStore, PartitionNotHeld, RocksDBStore, SagaStore

__all__ = ["OnRestored", "OnRevoked", "PartitionNotHeld", "SagaTable", "peek"]

OnRestored = Callable[[int, Iterable[tuple[bytes, bytes]]], None]
OnRevoked = Callable[[int], None]

# How often the end of each partition is looked at. A zombie's record is healed long before compaction can reach it: the
# topic's min.compaction.lag.ms has to be far above this.
_LOOK_EVERY = timedelta(seconds=10)


class SagaTable(faust.Table[bytes, bytes]):
    """Saga states by job_id, partition by partition.

    Read it by get(), items() and len(), write it by save(), from anywhere: neither needs a current event. Faust's own
    ways of writing a table are refused. Add it to the app with `app.tables.add(table)`.

    `on_restored(partition, items)` is called when a partition is ready, before its events are delivered, and again
    whenever restoring changed it: what was derived from it before has to be thrown away. `on_revoked(partition)` is
    called when an announced partition goes to another process, or is only a standby from then on.
    """

    def __init__(
        self,
        app: AppT,
        *,
        producer: Producer,
        client: Mapping[str, str | int | bool],
        bulk: bool = True,
        on_restored: OnRestored | None = None,
        on_revoked: OnRevoked | None = None,
        look_every: timedelta = _LOOK_EVERY,
        patience: timedelta = timedelta(seconds=30),
        **settings: Any,
    ) -> None:
        """`client`: librdkafka's `bootstrap.servers` and security. `patience`: how long another writer may be ahead.
        `bulk`: BulkRecovery restores and announces, else Faust's own recovery.

        `settings` are faust.Table's; `name`, `changelog_topic` and `store` (memory:// or rocksdb://) are needed.
        """
        settings.setdefault("key_type", bytes)
        settings.setdefault("value_type", bytes)
        # Without it a crash here would not be the app's.
        settings.setdefault("beacon", app.tables.beacon)
        if settings.get("options") is None:
            settings["options"] = dict(ROCKSDB_OPTIONS)
        super().__init__(app, **settings)
        self.client = client
        self._bulk = bulk
        self._producer = producer
        self._on_restored = on_restored
        self._on_revoked = on_revoked
        self._look_every = look_every
        self._watch = FencingWatch(self.changelog_topic_name, client, patience=patience)
        self._partitions: dict[int, SagaPartition] = {}

    # -- reading and writing

    def get(self, key: bytes, partition: int) -> bytes | None:  # type: ignore[override]  # a mapping's has no partition
        """The state of a saga, None if there is none; PartitionNotHeld."""
        return self.store.look_up(partition, key)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        """Every key and state of a partition; don't save while you iterate. PartitionNotHeld."""
        return self.store.scan(partition)

    def __len__(self) -> int:
        return sum(self.store.count(number) for number, partition in self._partitions.items() if partition.active)

    def forgotten_seq(self, key: bytes, partition: int) -> int | None:
        """The seq above which a saga must begin under a forgotten key; None if the table knows of nothing forgotten."""
        return self._held(partition).forgotten_seq(key)

    async def save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Publish states, None to forget a saga, and apply them once Kafka has acknowledged all.

        Forgetting what isn't there does nothing. Raises DeliveryFailed, ReadFailed, OwnershipLost: the process has to stop;
        PartitionNotHeld if the partition was revoked, and then the states may be published nevertheless;
        ProtocolViolation, with nothing sent, if a seq goes back.
        """
        await self._held(partition).save(items)

    def __setitem__(self, key: bytes, value: bytes) -> NoReturn:
        raise TypeError("A saga table is written by save(): assignment would not wait for Kafka.")

    def __delitem__(self, key: bytes) -> NoReturn:
        raise TypeError("A saga table is written by save(): deletion would not wait for Kafka.")

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: use save()."""
        raise TypeError("A saga table is written by save(): update would not wait for Kafka.")

    def clear(self) -> NoReturn:
        """Refused: sagas are forgotten one by one."""
        raise TypeError("A saga table is never cleared: forget sagas by save().")

    # -- restoring; recovery.py and Faust's own recovery call these

    @property
    def store(self) -> SagaStore:
        """The store, as what it is."""
        return cast(SagaStore, self.data)

    def known_offset(self, partition: int) -> int | None:
        """The offset up to which the table holds what the log says; None if it holds nothing."""
        return self._held_or_new(partition).known_offset

    def persisted_offset(self, tp: TP) -> int | None:
        """Where Faust's own recovery continues."""
        return self.known_offset(tp.partition)

    async def restoring(self, partitions: Iterable[int]) -> AsyncExitStack:
        """Wait for writes under way and keep new ones out until the stack that this returns is closed."""
        # All at once: while one is waited for, a rebalance may take another away, and it must not be made again.
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
        """Bound what is remembered of forgotten sagas, once restoring() has read to the end."""
        for number in partitions:
            self._held(number).trim()

    async def announce(self, partition: int) -> None:
        """Repair the log, then say that the partition is ready.

        Raises DeliveryFailed, and PartitionNotHeld when a rebalance was faster.
        """
        held = self._held(partition)
        await held.repair()
        if partition not in self._actives():
            raise PartitionNotHeld(partition)
        held.active = True
        if held.changed and self._on_restored is not None:
            self._on_restored(partition, self.store.scan(partition))
        held.changed = False

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Apply events of Faust's own recovery to what it restores; standbys get nothing from it, see recovery.py."""
        by_partition: dict[int, list[EventT[Any]]] = defaultdict(list)
        for event in batch:
            by_partition[event.message.partition].append(event)
        restored = set() if self._bulk else self._actives()
        for number in restored & by_partition.keys():
            held = self._held_or_new(number)
            # Once announced it is written here, and knows more than what comes late.
            if not held.active:
                events = by_partition[number]
                held.absorb([_change_of(event) for event in events], events[-1].message.offset)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Announce what Faust's own recovery has restored; an error stops the process."""
        try:
            if not self._bulk:
                await self._announce_all(sorted(tp.partition for tp in active_tps))
            await self.call_recover_callbacks()
        except PartitionNotHeld:
            # A rebalance came in between, and another recovery will follow it.
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the process must not go on
            # Faust only waits for this, and would go on without a word.
            await self.crash(error)

    async def _announce_all(self, partitions: Iterable[int]) -> None:
        holding = {number: self._held_or_new(number) for number in partitions}
        for number, held in holding.items():
            if self._partitions.get(number) is not held:
                raise PartitionNotHeld(number)
            await self.announce(number)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Let go of what was revoked, and of what is only a standby now; the rest is restored anew."""
        actives = self._actives()
        kept = {tp.partition for tp in assigned if tp.topic == self.changelog_topic_name}
        for number, held in list(self._partitions.items()):
            if number not in actives and held.active:
                # Should it come back, unchanged or not, what is derived from it has to be made anew.
                held.changed = True
                if self._on_revoked is not None:
                    self._on_revoked(number)
            held.active = False
            if number not in kept:
                self._partitions.pop(number).drop()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    # -- inside

    def _new_store(self) -> Any:
        url = URL(self._store or self.app.conf.store)
        kinds = {"memory": MemoryStore, "rocksdb": RocksDBStore}
        if url.scheme not in kinds:
            raise ConfigurationError(f"The saga table can't be kept in {url}: use memory:// or rocksdb://.")
        return kinds[url.scheme](
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_type=self.value_type,
            value_serializer=self.value_serializer,
            loop=self.loop,
            options=self.options,
        )

    def _actives(self) -> set[int]:
        """The partitions that are assigned to this process, but for standbys."""
        return {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self.changelog_topic_name}

    def _held(self, partition: int) -> SagaPartition:
        try:
            return self._partitions[partition]
        except KeyError:
            raise PartitionNotHeld(partition) from None

    def _held_or_new(self, partition: int) -> SagaPartition:
        held = self._partitions.get(partition)
        if held is None:
            held = SagaPartition(partition, self.changelog_topic_name, self.store, self._producer, self._watch)
            self._partitions[partition] = held
        return held

    @Service.task
    async def _look_at_ends(self) -> None:
        """Look for what somebody else wrote after this process's last write; an error here stops the process."""
        async for _ in self.itertimer(self._look_every.total_seconds(), name="SagaTable.look_at_ends"):
            await self.fence_other_writers()

    async def fence_other_writers(self) -> None:
        """Examine every partition up to its end; OwnershipLost, DeliveryFailed."""
        for held in list(self._partitions.values()):
            try:
                await held.fence_other_writers()
            except PartitionNotHeld:
                continue
            except ReadFailed as error:
                # Kafka is away. Nothing is lost by looking later, and save() finds out by itself.
                self.log.warning("Cannot look for foreign writes: %s", error)

    async def on_stop(self) -> None:
        """Close the connection that looks for foreign writes."""
        await self._watch.close()


def _change_of(event: EventT[Any]) -> ChangelogEntry:
    message = event.message
    # Kafka takes no record without a key into a compacted topic.
    key: bytes = message.key or b""
    # Faust types it as present, yet hands out tombstones.
    value: bytes | None = message.value
    if value is not None:
        return key, value, -1
    headers = message.headers
    return key, None, seq_in(headers.items() if isinstance(headers, Mapping) else headers)
