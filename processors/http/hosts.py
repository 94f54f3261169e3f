"""Politeness: how many requests one host gets at a time from this process, and how far apart they start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from processors.errors import RetryLater

#: Hosts beyond this many are forgotten, the idle ones first looked at; 10,000 are about 5 MB.
MAX_HOSTS = 10_000


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore
    #: When the next request may start, on the event loop's clock.
    next_start: float = 0.0
    users: int = field(default=0)


class Hosts:
    """Gives out turns at hosts; a turn that can't come within the budget is refused at once, never slept on."""

    def __init__(self, concurrency: int, delay: timedelta) -> None:
        self._concurrency = concurrency
        self._delay = delay.total_seconds()
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str, budget: timedelta) -> AsyncIterator[None]:
        """Wait for a turn at a host, at most for `budget`. Raises RetryLater if it can't come within it."""
        host = self._hosts.get(name) or self._add(name)
        host.users += 1
        try:
            end = asyncio.get_running_loop().time() + budget.total_seconds()
            try:
                async with asyncio.timeout_at(end):
                    await host.slots.acquire()
            except TimeoutError as error:
                raise RetryLater(
                    f"{name} has {self._concurrency} requests of this worker in flight already: "
                    "raise host_concurrency or submit more slowly"
                ) from error
            try:
                await self._wait(name, host, end)
                yield
            finally:
                host.slots.release()
        finally:
            host.users -= 1

    async def _wait(self, name: str, host: _Host, end: float) -> None:
        now = asyncio.get_running_loop().time()
        start = max(now, host.next_start)
        if start > end:
            raise RetryLater(f"{name} has its next turn later than this attempt", after=timedelta(seconds=start - now))
        # Taken before the wait: the next in line has to wait for the turn after this one.
        host.next_start = start + self._delay
        if start > now:
            await asyncio.sleep(start - now)

    def _add(self, name: str) -> _Host:
        if len(self._hosts) >= MAX_HOSTS:
            now = asyncio.get_running_loop().time()
            self._hosts = {n: h for n, h in self._hosts.items() if h.users or h.next_start > now}
        host = self._hosts[name] = _Host(asyncio.Semaphore(self._concurrency))
        return host
