"""Damaged bytes, and the bounds that reading them must keep."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

# CPU seconds: a loaded machine doesn't count. The slowest honest input of these sizes takes some 50 ms.
MOST_CPU_S = 2.0
# Nesting in YAML takes 1.4 CPU seconds however deep it is, for PyYAML looks ahead a bounded way; a busy neighbour on the same
# core may double that.
MOST_YAML_CPU_S = 10.0
# What a decoder may need beyond its input: a damaged length must not be believed.
MOST_BYTES = 8 * 1024 * 1024
_NUMBERS = (
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80" * 12,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes], *, keep: int = 0) -> bytes:
    """Bytes that were right, cut, overwritten, repeated or filled with numbers; the first `keep` are left alone."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(min(keep, len(data)), len(data)))
        match draw(st.sampled_from(("cut", "write", "insert", "repeat", "number"))):
            case "cut":
                del data[at:]
            case "write":
                data[at : at + 4] = draw(st.binary(min_size=1, max_size=4))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "repeat":
                data[at:at] = data[at : at + 32] * draw(st.integers(1, 8))
            case _:
                data[at : at + 1] = draw(st.sampled_from(_NUMBERS))
    return bytes(data)


@contextmanager
def bounded(most_s: float = MOST_CPU_S) -> Iterator[None]:
    """Fail if what runs inside takes too much CPU time."""
    began = time.process_time()
    yield
    took = time.process_time() - began
    assert took < most_s, f"{took:.1f} CPU seconds"


def peak_bytes(work: Callable[[], object]) -> int:
    """Return how much memory some work had allocated at its most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
