"""Standbys of the saga table: known_offset never passes a record that was not read, whatever Faust hands over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import faust
import pytest
from faust.types import TP, EventT

from processors.kafka.producer import Producer
from processors.saga_table import bulk_read, changelog
from processors.saga_table.changelog_reader import LogRecord, OnChunk, ReadFailed, ReadInterrupted
from processors.saga_table.store import PartitionNotHeld
from processors.saga_table.table import SagaTable
from processors.transport.recovery import BulkRecovery, BulkTables, add_saga_table
from processors.transport.saga_table import FaustSagaTable

SAGAS = "scrape.sagas"
OWNED, STANDBY, ANOTHER = 0, 1, 2


def state(seq: int, rest: bytes = b"rest") -> bytes:
    return b"\xc3\x01fingerpr" + bytes([2 * seq, 0, 2]) + rest


class Log:
    """One partition's records by offset, and ChangelogReader's interface on them; compaction has left holes."""

    def __init__(self, *records: LogRecord) -> None:
        self.records = list(records)
        self.read: list[int] = []
        self.on_read: Callable[[], object] = lambda: None

    @property
    def end(self) -> int:
        return self.records[-1].offset + 1

    def __call__(self, topic: str, client: object) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def bounds(self, partition: int) -> tuple[int, int]:
        return self.records[0].offset, self.end

    def read_to_end(self, starts: dict[int, int], on_chunk: OnChunk, stop: Any) -> None:
        for partition, start in starts.items():
            for record in self.records:
                self.on_read()
                if stop.is_set():
                    raise ReadInterrupted("A rebalance.")
                if record.offset >= start:
                    self.read.append(record.offset)
                    on_chunk(partition, [(record.key, record.value, record.seq)], record.offset)
            on_chunk(partition, [], self.end - 1)


# Offset 3 was compacted away.
RECORDS = [
    LogRecord(0, b"a", state(1)),
    LogRecord(1, b"a", state(2)),
    LogRecord(2, b"a", state(3)),
    LogRecord(4, b"b", state(1)),
]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log(*RECORDS)
    monkeypatch.setattr(bulk_read, "ChangelogReader", made)
    return made


class Process:
    """The table of a process that owns one partition and is the standby of another, with Faust's own recovery."""

    def __init__(self, folder: Path) -> None:
        self.app = faust.App("test", broker="kafka://127.0.0.1:1", datadir=folder, autodiscover=False, store="memory:")
        self.table: SagaTable = add_saga_table(self.app, producer=Producer("127.0.0.1:1"), client={})
        # Any: Faust's interfaces do not name what its own table manager has.
        self.tables: Any = self.app.tables
        self.assign({OWNED}, {STANDBY})
        assert isinstance(self.tables, BulkTables)
        self.recovery: BulkRecovery = self.tables.recovery
        seen = self.app.tables["sagas"]
        assert isinstance(seen, FaustSagaTable)
        self.seen = seen

    def assign(self, actives: set[int], standbys: set[int]) -> None:
        """What the assignor says from now on."""
        assignor = SimpleNamespace(
            assigned_actives=lambda: {TP(SAGAS, number) for number in actives},
            assigned_standbys=lambda: {TP(SAGAS, number) for number in standbys},
        )
        # A cached property, whose real one has its say from the group's leader.
        self.app.assignor = cast(Any, assignor)
        self.assigned = {TP(SAGAS, number) for number in actives | standbys}

    async def rebalance(self) -> None:
        """The callbacks of a rebalance, in Faust's order, up to the end of the restore."""
        self.app.tables.on_rebalance_start()
        self.recovery.on_partitions_revoked(set())
        await self.recovery.interrupt()
        await self.seen.on_rebalance(self.assigned, set(), set())
        await self.recovery.on_rebalance(self.assigned, set(), set())
        self.tables.on_actives_ready()

    def states(self) -> dict[bytes, bytes]:
        """What the standby holds."""
        return dict(self.table.items(STANDBY))


def event(record: LogRecord, partition: int = STANDBY) -> EventT[Any]:
    message = SimpleNamespace(
        key=record.key,
        value=record.value,
        headers=[],
        partition=partition,
        offset=record.offset,
        tp=TP(SAGAS, partition),
    )
    return cast("EventT[Any]", SimpleNamespace(message=message))


def test_what_faust_lost_is_not_taken_for_known(tmp_path: Path) -> None:
    """Offsets 2 and 3 were lost in between, which the table can't tell from a hole: it must read them yet."""

    async def body() -> None:
        process = Process(tmp_path)
        process.seen.apply_changelog_batch([event(RECORDS[0]), event(RECORDS[1])])
        process.seen.apply_changelog_batch([event(RECORDS[3])])
        known = process.table.known_offset(STANDBY)
        assert known is None or known < 2

    # In a loop, as in a process: outside of one Faust makes a loop that nobody closes.
    asyncio.run(body())


def test_faust_loses_what_waits_when_the_flow_resumes(tmp_path: Path) -> None:
    """The reason why standbys are not left to Faust; should this fail one day, they can be."""

    async def body() -> None:
        process = Process(tmp_path)
        app = process.app
        app.flow_control.resume()
        queue = process.tables.changelog_queue
        await queue.put(event(RECORDS[0]))
        app.flow_control.resume()
        assert queue.empty()

    asyncio.run(body())


def test_a_standby_is_read_to_the_end_and_on_from_there(tmp_path: Path, log: Log) -> None:
    """Holes that compaction left change nothing, and no record is read twice."""

    async def body() -> None:
        process = Process(tmp_path)
        await process.rebalance()
        await process.recovery.follow_standbys()
        assert process.states() == {b"a": state(3), b"b": state(1)}
        log.records.append(LogRecord(6, b"a", state(4)))
        await process.recovery.follow_standbys()
        assert process.states() == {b"a": state(4), b"b": state(1)}
        assert log.read == [0, 1, 2, 4, 6]
        assert process.table.known_offset(STANDBY) == 6

    asyncio.run(body())


def test_a_standby_does_not_grow_by_what_is_forgotten(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It remembers as many forgotten sagas as their owner does, though it may follow for months."""

    async def body() -> None:
        monkeypatch.setattr(changelog, "GRAVES_KEPT", 1)
        process = Process(tmp_path)
        await process.rebalance()
        log.records += [LogRecord(5, b"a", None, 3), LogRecord(6, b"b", None, 1)]
        await process.recovery.follow_standbys()
        assert process.states() == {}
        assert [process.table.forgotten_seq(key, STANDBY) for key in (b"a", b"b")] == [None, 1]

    asyncio.run(body())


def test_a_rebalance_interrupts_the_reading(tmp_path: Path, log: Log) -> None:
    """What was read until then is known, and the next reading begins behind it."""

    async def body() -> None:
        process = Process(tmp_path)
        await process.rebalance()

        def revoke() -> None:
            if len(log.read) == 2:
                process.recovery.on_partitions_revoked(set())

        log.on_read = revoke
        await process.recovery.follow_standbys()
        assert process.table.known_offset(STANDBY) == 1
        log.on_read = lambda: None
        await process.rebalance()
        await process.recovery.follow_standbys()
        assert process.states() == {b"a": state(3), b"b": state(1)}
        assert log.read == [0, 1, 2, 4]

    asyncio.run(body())


def test_a_partition_that_went_meanwhile_is_not_read(tmp_path: Path, log: Log) -> None:
    """A late save keeps a partition locked until the next rebalance has taken all away: none comes back."""

    async def body() -> None:
        process = Process(tmp_path)
        process.assign({OWNED}, {STANDBY, ANOTHER})
        await process.rebalance()
        async with await process.table.restoring([STANDBY]):
            following = asyncio.create_task(process.recovery.follow_standbys())
            await asyncio.sleep(0)
            process.assign({OWNED}, set())
            await process.rebalance()
        await following
        assert log.read == []
        for partition in (STANDBY, ANOTHER):
            with pytest.raises(PartitionNotHeld):
                process.table.items(partition)

    asyncio.run(body())


def test_owned_partitions_are_restored_first(tmp_path: Path, log: Log) -> None:
    """Between the start of a rebalance and the end of the restore no standby is read, nor made."""

    async def body() -> None:
        process = Process(tmp_path)
        await process.rebalance()
        process.app.tables.on_rebalance_start()
        await process.recovery.follow_standbys()
        assert log.read == []
        with pytest.raises(PartitionNotHeld):
            process.table.items(STANDBY)

    asyncio.run(body())


def test_while_kafka_is_away_a_standby_waits(tmp_path: Path, log: Log) -> None:
    """A read that failed ends nothing: the next one goes on."""

    def fail() -> None:
        raise ReadFailed("Kafka is away.")

    async def body() -> None:
        process = Process(tmp_path)
        await process.rebalance()
        log.on_read = fail
        await process.recovery.follow_standbys()
        log.on_read = lambda: None
        await process.recovery.follow_standbys()
        assert process.states() == {b"a": state(3), b"b": state(1)}

    asyncio.run(body())


def test_faust_follows_the_standbys_of_other_tables_only(tmp_path: Path) -> None:
    """It would read a saga table's for nothing."""

    async def body() -> None:
        process = Process(tmp_path)
        other = cast("faust.Table[Any, Any]", process.app.Table("other"))
        theirs = TP(other.changelog_topic_name, STANDBY)
        process.recovery.add_standby(process.seen, TP(SAGAS, STANDBY))
        process.recovery.add_standby(other, theirs)
        assert process.recovery.standby_tps == {theirs}

    asyncio.run(body())


def test_a_standby_is_not_announced(tmp_path: Path) -> None:
    """A restore that a rebalance overtook, while it repaired the log, must not say that the partition is owned."""

    async def body() -> None:
        process = Process(tmp_path)
        async with await process.table.restoring([OWNED]):
            process.assign(set(), {OWNED})
            with pytest.raises(PartitionNotHeld):
                await process.table.announce(OWNED)

    asyncio.run(body())
