"""Pages are read by processes that can be ended: whatever a page does to one, the worker goes on and the job has a reason."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from processors.extraction.readers import PageReaders, ReaderLost
from processors.extraction.reading import PageValues, ReadPage, Unread, read_page

LAMP = "<h1>Copper Lamp</h1><p class=price>5 €</p>"
#: Takes hours on a text of thirty letters.
EXPONENTIAL = {"f": {"regex": "(a+)+$"}}


def asked(html: str = LAMP, **fields: Any) -> ReadPage:
    """A question about a page."""
    given = fields or {"title": "h1"}
    archived = zstandard.compress(html.encode())
    return ReadPage(archived, "text/html", "https://shop.example/p", None, msgspec.json.encode(given), None)


@asynccontextmanager
async def pool(most: int = 1) -> AsyncIterator[PageReaders]:
    """Readers that are gone in the end."""
    readers = PageReaders(most)
    try:
        yield readers
    finally:
        await readers.close()


async def test_a_reader_answers_as_the_worker_itself_would() -> None:
    """Values with their encoding, or the reason why there are none; one process reads page after page."""
    async with pool() as readers:
        first = await readers.read(asked())
        assert first == read_page(asked()) == PageValues({"title": "Copper Lamp"}, "utf-8")
        (process,) = readers.idle
        assert await readers.read(asked(title="h2")) == read_page(asked(title="h2"))
        assert readers.idle == [process]


async def test_a_page_that_takes_too_long_is_given_up_and_the_next_one_read() -> None:
    """Nothing but the end of its process stops a regular expression: the reason says what may be slow."""
    async with pool() as readers:
        await readers.read(asked())
        with cpu_time_of_this_thread() as took:
            answer = await readers.read(asked("a" * 40 + "b", **EXPONENTIAL))
        assert isinstance(answer, Unread)
        assert "takes over 2 s of computing" in answer.reason
        assert took[0] < 0.1
        assert await readers.read(asked()) == read_page(asked())


async def test_the_loop_goes_on_while_a_large_page_is_read() -> None:
    """Between two turns of the loop its thread never computes for a tenth of a second."""
    html = "<h1>Copper Lamp</h1>" + "<p class=price>5 €</p>" * 90_000
    async with pool() as readers:
        reading = asyncio.ensure_future(readers.read(asked(html)))
        longest = 0.0
        while not reading.done():
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)
        assert await reading == PageValues({"title": "Copper Lamp"}, "utf-8")
    assert longest < 0.1


async def test_two_pages_are_read_at_a_time_if_there_are_two_readers() -> None:
    """And no more than that."""
    async with pool(2) as readers:
        answers = await asyncio.gather(*(readers.read(asked()) for _ in range(6)))
        assert answers == [read_page(asked())] * 6
        assert len(readers.idle) == 2


async def test_an_attempt_that_is_cancelled_ends_its_reader() -> None:
    """A page that nobody waits for any more takes no processor."""
    async with pool() as readers:
        await readers.read(asked())
        (process,) = readers.idle
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await readers.read(asked("a" * 40 + "b", **EXPONENTIAL))
        assert process.returncode == -signal.SIGKILL
        assert await readers.read(asked()) == read_page(asked())


async def test_a_reader_that_is_killed_from_outside_says_nothing_of_its_page() -> None:
    """The attempt is repeated; the page had no part in it."""
    async with pool() as readers:
        await readers.read(asked())
        (process,) = readers.idle
        reading = asyncio.ensure_future(readers.read(asked("a" * 40 + "b", **EXPONENTIAL)))
        while readers.idle:
            await asyncio.sleep(0)
        process.kill()
        with pytest.raises(ReaderLost, match="ended from outside"):
            await reading


async def test_a_reader_that_ended_between_two_pages_is_replaced() -> None:
    """Nobody notices."""
    async with pool() as readers:
        await readers.read(asked())
        (process,) = readers.idle
        process.kill()
        await process.wait()
        assert await readers.read(asked()) == read_page(asked())


async def test_a_page_that_takes_too_much_memory_is_given_up() -> None:
    """The reader's memory is bounded by the kernel, the worker's isn't touched."""
    many = {f"f{at}": {"regex": "x+"} for at in range(80)}
    async with pool() as readers:
        assert await readers.read(asked("<p>" + "x" * 8_000_000, **many)) == Unread(
            "reading the page takes over 384 MiB of memory"
        )
        assert await readers.read(asked()) == read_page(asked())


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the environment of a process under /proc")
async def test_a_reader_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are hostile, and whoever breaks a reader finds nothing in its environment."""
    monkeypatch.setenv("SCRAPESAGA_SASL_PASSWORD", "hunter2hunter2")
    async with pool() as readers:
        await readers.read(asked())
        (process,) = readers.idle
        assert b"hunter2" not in Path(f"/proc/{process.pid}/environ").read_bytes()


async def test_readers_end_with_their_pool_and_with_their_worker() -> None:
    """Closed, or without anybody on the other end of its pipe, a reader ends."""
    async with pool() as readers:
        await readers.read(asked())
        (process,) = readers.idle
    assert process.returncode is not None
    async with pool() as readers:
        await readers.read(asked())
        (process,) = readers.idle
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


@contextmanager
def cpu_time_of_this_thread() -> Iterator[list[float]]:
    """How long this thread has computed meanwhile."""
    took = [0.0]
    began = time.thread_time()
    yield took
    took[0] = time.thread_time() - began
