"""The inbox hands out what is there, at once, in order."""

from __future__ import annotations

import asyncio

from aiokafka.structs import ConsumerRecord

from processors.transport.inbox import Inbox
from processors.transport.progress import Progress


def fetched(partition: int, *offsets: int) -> list[ConsumerRecord[bytes, bytes]]:
    return [ConsumerRecord("t", partition, o, 7, 0, b"k", b"v", None, 1, 1, (("h", b"x"),)) for o in offsets]


def progress() -> Progress:
    return Progress(lambda: None)


async def test_all_that_is_there_is_one_batch() -> None:
    """Runs of several partitions come together, each in order."""
    inbox, first, second = Inbox(), progress(), progress()
    inbox.put(first, fetched(0, 1, 2))
    inbox.put(second, fetched(1, 8))
    inbox.put(first, fetched(0, 3))
    batch = await inbox.take(100)
    assert batch is not None
    assert [(r.partition, r.offset) for r in batch.records] == [(0, 1), (0, 2), (0, 3), (1, 8)]
    assert batch.records[0] == ("t", 0, 1, 7, b"k", b"v", (("h", b"x"),))
    assert (first.in_flight, second.in_flight, inbox.queued) == (3, 1, 0)


async def test_a_batch_is_no_larger_than_asked_for() -> None:
    """The rest waits, unsplit in its order."""
    inbox, first = Inbox(), progress()
    inbox.put(first, fetched(0, 1, 2, 3, 4, 5))
    sizes = []
    for _ in range(3):
        batch = await inbox.take(2)
        assert batch is not None
        sizes.append([r.offset for r in batch.records])
        batch.done()
    assert sizes == [[1, 2], [3, 4], [5]]
    assert first.committable == 6


async def test_a_reader_gets_the_first_record_without_waiting_for_a_second() -> None:
    """An idle agent wakes with one record."""
    inbox = Inbox()
    reader = asyncio.ensure_future(inbox.take(100))
    await asyncio.sleep(0)
    inbox.put(progress(), fetched(0, 1))
    batch = await asyncio.wait_for(reader, 1)
    assert batch is not None
    assert len(batch) == 1


async def test_dropped_records_are_not_handed_out() -> None:
    """After a revocation the reader waits for what is fetched next."""
    inbox, old, new = Inbox(), progress(), progress()
    inbox.put(old, fetched(0, 1, 2))
    inbox.drop()
    assert inbox.queued == 0
    reader = asyncio.ensure_future(inbox.take(100))
    await asyncio.sleep(0)
    assert not reader.done()
    inbox.put(new, fetched(0, 2))
    batch = await asyncio.wait_for(reader, 1)
    assert batch is not None
    assert [r.offset for r in batch.records] == [2]
    assert old.in_flight == 0


async def test_closing_ends_every_reader() -> None:
    """Agents end by themselves when the app stops."""
    inbox = Inbox()
    inbox.put(progress(), fetched(0, 1))
    seen = []

    async def read() -> None:
        async for batch in inbox.batches(10):
            seen.append(len(batch))

    readers = [asyncio.ensure_future(read()) for _ in range(2)]
    await asyncio.sleep(0)
    inbox.close()
    await asyncio.wait_for(asyncio.gather(*readers), 1)
    assert seen == [1]
