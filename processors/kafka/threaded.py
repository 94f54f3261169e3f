"""Runs a blocking read beside an event loop: the one way in which async code uses a Reader."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], stopped: threading.Event) -> T:
    """Return what blocking work returns. When this is cancelled the work is told by `stopped`, and waited for.

    A thread that went on would use a connection, and change what it reads into, at the same time as whoever comes next.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait([running])
        stopped.clear()
        if not running.cancelled():
            # Looked at, so that the loop doesn't complain: whoever cancelled wants no result, and no error either.
            running.exception()
        raise
