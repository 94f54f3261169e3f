"""Politeness: how many requests one host gets at a time from this process, and how far apart they start.

There is one `Hosts` per process. Steps with other parameters share it: each waits until its own limits allow the next
request, and counts the requests of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from weakref import WeakKeyDictionary

from processors.errors import RetryLater

#: Above this number, idle hosts are forgotten; 10,000 hosts take about 5 MB.
MAX_HOSTS = 10_000


@dataclass(frozen=True, slots=True)
class HostLimits:
    """How many requests one host gets at a time, and the time between their starts."""

    concurrency: int
    delay: timedelta = timedelta(0)


@dataclass(slots=True)
class _Host:
    #: Held by the first in line: requests start in the order in which they came, whatever their limits.
    line: asyncio.Lock = field(default_factory=asyncio.Lock)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    #: When the last request started or will start, on the clock of the event loop.
    last_start: float = float("-inf")
    #: From when on any request may start: the last start and the delay of the step that made it.
    next_start: float = float("-inf")
    users: int = 0


class Hosts:
    """Gives out turns at hosts. A turn that can't come within the budget is refused at once."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    @classmethod
    def of_this_process(cls) -> Hosts:
        """Return the one instance of this process, more exactly of its event loop; call it where the loop runs."""
        return _OF_LOOP.setdefault(asyncio.get_running_loop(), cls())

    @asynccontextmanager
    async def turn(self, name: str, limits: HostLimits, budget: timedelta) -> AsyncIterator[None]:
        """Wait for a turn at a host, at most for `budget`. Raises RetryLater if it can't come within it."""
        host = self._hosts.get(name) or self._add(name)
        host.users += 1
        try:
            await self._start(name, host, limits, asyncio.get_running_loop().time() + budget.total_seconds())
            try:
                yield
            finally:
                host.running -= 1
                host.left.set()
        finally:
            host.users -= 1

    async def _start(self, name: str, host: _Host, limits: HostLimits, end: float) -> None:
        try:
            async with asyncio.timeout_at(end), host.line:
                while host.running >= limits.concurrency:
                    host.left.clear()
                    await host.left.wait()
                wait = _take_start(name, host, limits, end)
        except TimeoutError as error:
            raise RetryLater(
                f"{name} has {limits.concurrency} or more requests of this process in flight already: "
                "raise host_concurrency or submit more slowly"
            ) from error
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            host.running -= 1
            host.left.set()
            raise

    def _add(self, name: str) -> _Host:
        if len(self._hosts) >= MAX_HOSTS:
            now = asyncio.get_running_loop().time()
            self._hosts = {n: h for n, h in self._hosts.items() if h.users or h.next_start > now}
        host = self._hosts[name] = _Host()
        return host


def _take_start(name: str, host: _Host, limits: HostLimits, end: float) -> float:
    """Take the next start at a host, and return the seconds until then. Raises RetryLater if it is after `end`."""
    now = asyncio.get_running_loop().time()
    delay = limits.delay.total_seconds()
    start = max(now, host.next_start, host.last_start + delay)
    if start > end:
        raise RetryLater(f"{name} has its next turn later than this attempt", after=timedelta(seconds=start - now))
    # Taken before the wait: the next in line has to wait for the turn after this one.
    host.last_start, host.next_start = start, start + delay
    host.running += 1
    return start - now


# A process has one event loop; each simulated process and each test has its own, and they share no limits.
_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Hosts] = WeakKeyDictionary()
