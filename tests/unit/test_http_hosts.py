"""Turns at hosts: a limit at a time, a delay between starts, and no waiting beyond the budget."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from processors.errors import RetryLater
from processors.http import hosts
from processors.http.hosts import Hosts

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(20)]

LONG = timedelta(seconds=10)


async def test_a_host_gets_no_more_at_a_time_than_its_limit() -> None:
    """Of ten requests at once two run; another host isn't held up by them."""
    turns, running, most = Hosts(2, timedelta(0)), 0, 0

    async def visit() -> None:
        nonlocal running, most
        async with turns.turn("a", LONG):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    async with turns.turn("b", LONG), turns.turn("b", LONG):
        await asyncio.gather(*(visit() for _ in range(10)))
    assert most == 2


async def test_a_turn_that_does_not_come_in_time_is_tried_later() -> None:
    """A full host costs the attempt its budget, not the worker's other commands theirs."""
    turns = Hosts(1, timedelta(0))
    async with turns.turn("a", LONG):
        with pytest.raises(RetryLater, match="host_concurrency"):
            async with turns.turn("a", timedelta(milliseconds=1)):
                pass
    async with turns.turn("a", timedelta(milliseconds=1)):
        pass


async def test_starts_at_a_host_are_a_delay_apart() -> None:
    """The delay separates the starts at one host, the fourth three delays after the first."""
    turns, starts = Hosts(10, timedelta(milliseconds=20)), list[float]()

    async def visit() -> None:
        async with turns.turn("a", LONG):
            starts.append(asyncio.get_running_loop().time())

    begin = asyncio.get_running_loop().time()
    await asyncio.gather(*(visit() for _ in range(4)))
    # From the begin, not from each other: a start that woke late makes the next gap shorter.
    assert all(start - begin >= 0.02 * turn - 0.001 for turn, start in enumerate(starts))


async def test_a_delay_beyond_the_budget_is_left_to_the_coordinator() -> None:
    """A turn after the attempt's end is refused at once, says when, and takes nobody's place."""
    turns = Hosts(10, timedelta(hours=1))
    async with turns.turn("a", LONG):
        pass
    for _ in range(2):
        with pytest.raises(RetryLater) as caught:
            async with turns.turn("a", LONG):
                pass
        assert caught.value.after is not None
        assert timedelta(minutes=59) < caught.value.after <= timedelta(hours=1)


async def test_idle_hosts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawl over a million hosts doesn't keep a million of them."""
    monkeypatch.setattr(hosts, "MAX_HOSTS", 10)
    turns = Hosts(1, timedelta(0))
    for number in range(100):
        async with turns.turn(f"host{number}", LONG):
            pass
    assert len(turns._hosts) <= 10
