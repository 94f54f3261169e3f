"""Turns at hosts: a limit at a time, a delay between starts, and no waiting beyond the budget."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from processors.errors import RetryLater
from processors.http import hosts
from processors.http.hosts import HostLimits, Hosts
from processors.steps.fetch import Fetch
from processors.steps.fetch_params import FetchParams
from processors.testing import MemoryHost
from tests.unit.test_fetch import call

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(20)]

LONG = timedelta(seconds=10)


async def test_a_host_gets_no_more_at_a_time_than_its_limit() -> None:
    """Of ten requests at once two run; another host isn't held up by them."""
    turns, limits, running, most = Hosts(), HostLimits(2), 0, 0

    async def visit() -> None:
        nonlocal running, most
        async with turns.turn("a", limits, LONG):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    async with turns.turn("b", limits, LONG), turns.turn("b", limits, LONG):
        await asyncio.gather(*(visit() for _ in range(10)))
    assert most == 2


async def test_a_turn_that_does_not_come_in_time_is_tried_later() -> None:
    """A full host costs the attempt its budget, not the worker's other commands theirs."""
    turns, limits = Hosts(), HostLimits(1)
    async with turns.turn("a", limits, LONG):
        with pytest.raises(RetryLater, match="host_concurrency"):
            async with turns.turn("a", limits, timedelta(milliseconds=1)):
                pass
    async with turns.turn("a", limits, timedelta(milliseconds=1)):
        pass


async def test_starts_at_a_host_are_a_delay_apart() -> None:
    """The delay separates the starts at one host, the fourth three delays after the first."""
    turns, limits, starts = Hosts(), HostLimits(10, timedelta(milliseconds=20)), list[float]()

    async def visit() -> None:
        async with turns.turn("a", limits, LONG):
            starts.append(asyncio.get_running_loop().time())

    begin = asyncio.get_running_loop().time()
    await asyncio.gather(*(visit() for _ in range(4)))
    # From the begin, not from each other: a start that woke late makes the next gap shorter.
    assert all(start - begin >= 0.02 * turn - 0.001 for turn, start in enumerate(starts))


async def test_a_delay_beyond_the_budget_is_left_to_the_coordinator() -> None:
    """A turn after the attempt's end is refused at once, says when, and takes nobody's place."""
    turns, limits = Hosts(), HostLimits(10, timedelta(hours=1))
    async with turns.turn("a", limits, LONG):
        pass
    for _ in range(2):
        with pytest.raises(RetryLater) as caught:
            async with turns.turn("a", limits, LONG):
                pass
        assert caught.value.after is not None
        assert timedelta(minutes=59) < caught.value.after <= timedelta(hours=1)


async def test_idle_hosts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawl over a million hosts doesn't keep a million of them."""
    monkeypatch.setattr(hosts, "MAX_HOSTS", 10)
    turns, limits = Hosts(), HostLimits(1)
    for number in range(100):
        async with turns.turn(f"host{number}", limits, LONG):
            pass
    assert len(turns._hosts) <= 10


async def test_steps_with_other_limits_share_the_hosts_of_their_process() -> None:
    """A process is polite as a whole: each step counts the requests of all steps against its own limit."""
    shared = Hosts.of_this_process()
    assert Hosts.of_this_process() is shared
    async with shared.turn("a", HostLimits(8), LONG), shared.turn("a", HostLimits(8), LONG):
        with pytest.raises(RetryLater, match="host_concurrency"):
            async with shared.turn("a", HostLimits(2), timedelta(milliseconds=1)):
                pass
        async with shared.turn("a", HostLimits(3), LONG):
            pass


async def test_the_longer_delay_of_two_steps_holds_between_their_requests() -> None:
    """A start waits for the delay of the step before it, and for its own."""
    turns, hour = Hosts(), timedelta(hours=1)
    for name, first, second in (("a", hour, timedelta(0)), ("b", timedelta(0), hour)):
        async with turns.turn(name, HostLimits(8, first), LONG):
            pass
        with pytest.raises(RetryLater, match="later than this attempt"):
            async with turns.turn(name, HostLimits(8, second), LONG):
                pass


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    """An attempt that is cut off while it waits for its start takes no place at the host for ever."""
    turns, limits = Hosts(), HostLimits(1, timedelta(milliseconds=50))
    async with turns.turn("a", limits, LONG):
        pass
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), turns.turn("a", limits, LONG):
            pass
    async with turns.turn("a", limits, LONG):
        pass


async def test_fetch_takes_its_turns_from_the_hosts_of_the_process() -> None:
    """A fetch keeps the delay that another step of the process has asked for at the host."""
    step = Fetch("fetch", FetchParams(), MemoryHost(settings={"ALLOW_ADDRESSES": "127.0.0.1"}))
    await step.open()
    async with Hosts.of_this_process().turn("127.0.0.1", HostLimits(8, timedelta(hours=1)), LONG):
        pass
    with pytest.raises(RetryLater, match="later than this attempt"):
        await step.run(call("http://127.0.0.1:9/"))
    await step.close()
