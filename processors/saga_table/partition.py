"""One partition of the saga table while this process holds it: writes it, and records which offsets are its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from processors.errors import ProtocolViolation
from processors.kafka.producer import Outgoing
from processors.kafka.publish import Sender
from processors.saga_table.changelog import SEQ_HEADER, ChangelogEntry, ChangelogMemory, seq_of
from processors.saga_table.fencing import FencingWatch, OffsetAccount
from processors.saga_table.store import PartitionNotHeld, SagaStore


class SagaPartition:
    """The log of one partition and its states; after drop(), every use raises PartitionNotHeld."""

    def __init__(self, number: int, topic: str, store: SagaStore, producer: Sender, watch: FencingWatch) -> None:
        self.number = number
        self.active = False
        """Restored and announced: only other writers can add records that the table does not know."""
        self.changed = True
        """Records were read that have not been announced."""
        # Held while the partition is written, restored or examined, because the offsets of own writes identify the writer.
        self.lock = asyncio.Lock()
        self._topic = topic
        self._store = store
        self._producer = producer
        self._watch = watch
        self._memory = ChangelogMemory()
        self._account = OffsetAccount()
        self._dropped = False
        store.hold(number)

    @property
    def known_offset(self) -> int | None:
        """The offset up to which the table has the states of the log; None if it has none."""
        return self._account.known if self._account.last >= 0 else self._store.kept_offset(self.number)

    def forgotten_seq(self, key: bytes) -> int | None:
        """The seq up to which the key was forgotten, if it is remembered."""
        return self._memory.graves.get(key)

    def drop(self) -> None:
        """Drop the partition."""
        self._dropped = True
        self._store.drop(self.number)

    async def save(self, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Publish states, apply them when acknowledged, and examine records of other writers; errors as SagaTable.save()."""
        async with self.lock:
            self._check_held()
            changes = self._changes(items)
            offsets = await self._send(changes)
            self._account.wrote(offsets)
            self._store.fold(self.number, self._memory, changes, self._account.known)
            self._memory.trim()
            if self._account.gaps:
                await self._examine()

    async def fence_other_writers(self) -> None:
        """Examine the log up to its end; OwnershipLost, DeliveryFailed, ReadFailed."""
        async with self.lock:
            if self.active and not self._dropped:
                await self._watch.look_at_end(self.number, self._account)
                await self._examine()

    def absorb(self, changes: Sequence[ChangelogEntry], last: int) -> None:
        """Apply records of the log up to the offset `last`, read from known_offset on."""
        # Reading starts before the gaps, so they are read now. An interrupted read continues from here.
        self._account = OffsetAccount(last)
        # A crash before the repair must read the stale record again.
        self._store.fold(self.number, self._memory, changes, None if self._memory.stale or last < 0 else last)
        self.changed = self.changed or bool(changes)

    async def repair(self) -> None:
        """Publish states again that compaction would lose; DeliveryFailed."""
        stale = sorted(self._memory.stale)
        if stale:
            self._account.wrote(await self._send([self._now(key) for key in stale]))
            self._memory.stale.clear()
        if self._account.known >= 0:
            self._store.fold(self.number, self._memory, (), self._account.known)
        self.trim()

    def trim(self) -> None:
        """Limit the memory of forgotten sagas; not in the middle of a read."""
        self._memory.trim()

    async def _examine(self) -> None:
        await self._watch.examine(self.number, self._account, self._state_of, self._publish_again)
        self._check_held()
        self._store.fold(self.number, self._memory, (), self._account.known)

    def _state_of(self, key: bytes) -> tuple[bytes | None, int | None]:
        self._check_held()
        return self._store.look_up(self.number, key), self._memory.graves.get(key)

    async def _publish_again(self, keys: list[bytes]) -> list[int]:
        return await self._send([self._now(key) for key in keys])

    def _now(self, key: bytes) -> ChangelogEntry:
        value = self._store.look_up(self.number, key)
        return (key, None, self._memory.graves[key]) if value is None else (key, value, -1)

    async def _send(self, changes: Sequence[ChangelogEntry]) -> list[int]:
        records = []
        for key, value, seq in changes:
            headers = ((SEQ_HEADER, b"%d" % seq),) if value is None else ()
            records.append(Outgoing(self._topic, self.number, key, value, headers))
        offsets = await self._producer.send(records)
        self._check_held()
        return offsets

    def _changes(self, items: Sequence[tuple[bytes, bytes | None]]) -> list[ChangelogEntry]:
        """The records to send; a tombstone gets the seq of the state that it forgets."""
        states = self._store.load(self.number, {key for key, _ in items})
        seqs = {key: seq_of(value) for key, value in states.items()}
        changes: list[ChangelogEntry] = []
        for key, value in items:
            if value is None:
                if key in seqs:
                    changes.append((key, None, seqs.pop(key)))
                continue
            seq = seq_of(value)
            lowest = seqs[key] if key in seqs else self._memory.graves.get(key, -1) + 1
            if seq < lowest:
                raise ProtocolViolation(
                    f"Saga {key!r} can't be saved with seq {seq}: {lowest} or more is due after what the log has. "
                    "A saga that begins again after it was forgotten must begin above its last seq."
                )
            seqs[key] = seq
            changes.append((key, value, -1))
        return changes

    def _check_held(self) -> None:
        if self._dropped:
            raise PartitionNotHeld(self.number)
