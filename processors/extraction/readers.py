"""The processes that read pages for a worker: a few at most, started when needed, replaced when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import ClassVar
from weakref import WeakKeyDictionary

import msgspec

from processors.extraction.reader import LENGTH, MOST_CPU_S, OVER_TIME
from processors.extraction.reading import PageValues, ReadPage, Unread

#: A reader that waits for a processor longer than this has none to wait for.
LONGEST_WAIT = timedelta(seconds=60)
# A reader may end by itself after the page before; twice in a row it doesn't.
_TRIES = 3
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_MODULE = "processors.extraction.reader"
# Pages are hostile: a reader is told nothing that it doesn't need, no secret above all.
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")

_ANSWER: msgspec.msgpack.Decoder[PageValues | Unread] = msgspec.msgpack.Decoder(PageValues | Unread)


class ReaderLost(Exception):
    """A reader ended for no reason that the page gave: trying again may help."""


class PageReaders:
    """A pool of reader processes. Every page has an answer in bounded time; the event loop is never held up."""

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, PageReaders]] = WeakKeyDictionary()

    @classmethod
    def joined(cls, most: int) -> PageReaders:
        """The pool of this event loop, which all steps share; each of them leaves it in the end."""
        loop = asyncio.get_running_loop()
        pool = cls._of_loops.setdefault(loop, cls(most))
        pool._users += 1
        return pool

    async def leave(self) -> None:
        """End all readers if nobody else uses them."""
        self._users -= 1
        if self._users == 0:
            self._of_loops.pop(asyncio.get_running_loop(), None)
            await self.close()

    def __init__(self, most: int) -> None:
        self._users = 0
        self._turns = asyncio.Semaphore(most)
        #: Readers that wait for a page.
        self.idle: list[asyncio.subprocess.Process] = []
        self._working: set[asyncio.subprocess.Process] = set()

    async def read(self, page: ReadPage) -> PageValues | Unread:
        """The page's values, or why there are none. Raises ReaderLost; a reader that is cancelled is ended."""
        async with self._turns:
            for _ in range(_TRIES):
                answer = await self._read(page)
                if answer is not None:
                    return answer
        raise ReaderLost("readers end before they answer")

    async def _read(self, page: ReadPage) -> PageValues | Unread | None:
        reader = await self._free()
        self._working.add(reader)
        try:
            async with asyncio.timeout(LONGEST_WAIT.total_seconds()):
                answer = await _asked(reader, page)
            self.idle.append(reader)
            return answer
        except TimeoutError as error:
            raise ReaderLost(f"the page was not read within {LONGEST_WAIT}") from error
        except (asyncio.IncompleteReadError, ConnectionError):
            return _last_words(await reader.wait())
        finally:
            self._working.discard(reader)
            if reader not in self.idle:
                await _end(reader)

    async def close(self) -> None:
        """End all readers: those that wait by the end of their input, those that work at once."""
        waiting, self.idle = self.idle, []
        for reader in waiting:
            if reader.stdin is not None:
                reader.stdin.close()
        for reader in waiting:
            await reader.wait()
        for reader in list(self._working):
            await _end(reader)

    async def _free(self) -> asyncio.subprocess.Process:
        while self.idle:
            reader = self.idle.pop()
            if reader.returncode is None:
                return reader
            await reader.wait()
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            )
        except OSError as error:
            raise ReaderLost(f"no process to read pages could be started: {error}") from error


async def _asked(reader: asyncio.subprocess.Process, page: ReadPage) -> PageValues | Unread:
    if reader.stdin is None or reader.stdout is None:
        raise ReaderLost("the reader has no pipes")
    question = msgspec.msgpack.encode(page)
    reader.stdin.writelines((LENGTH.pack(len(question)), question))
    await reader.stdin.drain()
    (length,) = LENGTH.unpack(await reader.stdout.readexactly(LENGTH.size))
    return _ANSWER.decode(await reader.stdout.readexactly(length))


def _last_words(code: int) -> Unread | None:
    """What the end of a reader says of its page; nothing if it ended by itself, after the page before, to be renewed."""
    if code == 0:
        return None
    if code == -OVER_TIME:
        return Unread(
            f"the page takes over {MOST_CPU_S:g} s of computing: is one of the pipeline's own regular expressions or "
            "selectors slow? If not, the page is made to take long"
        )
    if -code in _CRASHES:
        return Unread(f"reading the page crashed its process ({signal.Signals(-code).name}), and would again")
    raise ReaderLost(f"the process that read the page was ended from outside (status {code})")


async def _end(reader: asyncio.subprocess.Process) -> None:
    if reader.returncode is None:
        try:
            reader.kill()
        except ProcessLookupError:
            pass
    await asyncio.shield(reader.wait())
