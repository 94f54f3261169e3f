"""The inbox hands out what is there, at once, in order."""

from __future__ import annotations

import asyncio

from aiokafka.structs import ConsumerRecord

from processors.transport.offset_tracker import OffsetTracker
from processors.transport.record_queue import RecordQueue


def fetched(partition: int, *offsets: int) -> list[ConsumerRecord[bytes, bytes]]:
    return [ConsumerRecord("t", partition, o, 7, 0, b"k", b"v", None, 1, 1, (("h", b"x"),)) for o in offsets]


def tracker() -> OffsetTracker:
    return OffsetTracker(lambda: None)


async def test_all_that_is_there_is_one_batch() -> None:
    """Runs of several partitions come together, each in order."""
    record_queue, first, second = RecordQueue(), tracker(), tracker()
    record_queue.put(first, fetched(0, 1, 2))
    record_queue.put(second, fetched(1, 8))
    record_queue.put(first, fetched(0, 3))
    batch = await record_queue.take(100)
    assert batch is not None
    assert [(r.partition, r.offset) for r in batch.records] == [(0, 1), (0, 2), (0, 3), (1, 8)]
    assert batch.records[0] == ("t", 0, 1, 7, b"k", b"v", (("h", b"x"),))
    assert (first.in_flight, second.in_flight, record_queue.queued) == (3, 1, 0)


async def test_a_batch_is_no_larger_than_asked_for() -> None:
    """The rest waits, unsplit in its order."""
    record_queue, first = RecordQueue(), tracker()
    record_queue.put(first, fetched(0, 1, 2, 3, 4, 5))
    sizes = []
    for _ in range(3):
        batch = await record_queue.take(2)
        assert batch is not None
        sizes.append([r.offset for r in batch.records])
        batch.done()
    assert sizes == [[1, 2], [3, 4], [5]]
    assert first.committable == 6


async def test_a_reader_gets_the_first_record_without_waiting_for_a_second() -> None:
    """An idle agent wakes with one record."""
    record_queue = RecordQueue()
    reader = asyncio.ensure_future(record_queue.take(100))
    await asyncio.sleep(0)
    record_queue.put(tracker(), fetched(0, 1))
    batch = await asyncio.wait_for(reader, 1)
    assert batch is not None
    assert len(batch) == 1


async def test_dropped_records_are_not_handed_out() -> None:
    """After a revocation the reader waits for what is fetched next."""
    record_queue, old, new = RecordQueue(), tracker(), tracker()
    record_queue.put(old, fetched(0, 1, 2))
    record_queue.drop()
    assert record_queue.queued == 0
    reader = asyncio.ensure_future(record_queue.take(100))
    await asyncio.sleep(0)
    assert not reader.done()
    record_queue.put(new, fetched(0, 2))
    batch = await asyncio.wait_for(reader, 1)
    assert batch is not None
    assert [r.offset for r in batch.records] == [2]
    assert old.in_flight == 0


async def test_closing_ends_every_reader() -> None:
    """Agents end by themselves when the app stops."""
    record_queue = RecordQueue()
    record_queue.put(tracker(), fetched(0, 1))
    seen = []

    async def read() -> None:
        async for batch in record_queue.batches(10):
            seen.append(len(batch))

    readers = [asyncio.ensure_future(read()) for _ in range(2)]
    await asyncio.sleep(0)
    record_queue.close()
    await asyncio.wait_for(asyncio.gather(*readers), 1)
    assert seen == [1]
