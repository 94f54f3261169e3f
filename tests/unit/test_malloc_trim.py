"""What was freed goes back to the system when it is asked for."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from processors.saga_table.recovery import malloc_trim

_BLOCKS, _BYTES = 50_000, 2_000


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="only glibc gives memory back when asked",
)
def test_what_was_freed_is_given_back() -> None:
    """Freed blocks below one that is in use are resident no more."""
    blocks = [bytes(_BYTES) for _ in range(_BLOCKS)]
    last = blocks.pop()
    full = _resident_bytes()
    blocks.clear()
    malloc_trim()
    assert _resident_bytes() < full - _BLOCKS * _BYTES // 2
    assert len(last) == _BYTES
