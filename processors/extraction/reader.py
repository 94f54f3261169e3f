"""The process that reads pages: one question after the other on its standard input, each with its answer on the output.

The kernel ends it when a page takes more computing or memory than it may, whatever it is in the middle of.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO

import msgspec

from processors.extraction.reading import PageValues, ReadPage, Unread, read_page

#: Of computing. Ordinary pages take some 10 ms, the largest ones 100; slow machines a few times that.
MOST_CPU_S = 2.0
#: Of memory, beyond what the process has at its start.
MOST_BYTES = 384 * 1024 * 1024
#: The signal that ends a reader when MOST_CPU_S is over.
OVER_TIME = signal.SIGPROF
#: Each message follows its length.
LENGTH = struct.Struct("!I")

# A reader that held a huge page goes on holding most of its memory.
_RENEWED_AT_BYTES = 192 * 1024 * 1024


def main() -> None:
    """Answer until the input ends."""
    # The worker decides when its readers end: Ctrl-C reaches them too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(OVER_TIME, signal.SIG_DFL)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    began = _limit_memory()
    gc.collect()
    gc.freeze()
    # Trees of elements are no garbage in circles, and each page has thousands of them.
    gc.set_threshold(50_000, 20, 50)
    while (question := _message(questions)) is not None:
        answer = msgspec.msgpack.encode(_answer(question))
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()
        if _peak_bytes() - began > _RENEWED_AT_BYTES:
            return


def _answer(question: bytes) -> PageValues | Unread:
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    try:
        return read_page(msgspec.msgpack.decode(question, type=ReadPage))
    except MemoryError:
        return Unread(f"reading the page takes over {MOST_BYTES // 1024**2} MiB of memory")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _message(source: BinaryIO) -> bytes | None:
    length = source.read(LENGTH.size)
    return source.read(*LENGTH.unpack(length)) if len(length) == LENGTH.size else None


def _limit_memory() -> int:
    began = _peak_bytes()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + MOST_BYTES,) * 2)
    return began


def _data_bytes() -> int:
    # Pages of data and stack, the sixth number: what RLIMIT_DATA counts.
    with open("/proc/self/statm", encoding="ascii") as sizes:
        return int(sizes.read().split()[5]) * resource.getpagesize()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
