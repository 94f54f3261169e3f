"""One live process a data directory: a lock that its holder's death releases, whichever way it dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from processors.local.errors import DataDirInUse

LOCK = "lock"
# Whoever looks who holds a claim takes a lock for a moment.
_LOOKERS_GO_WITHIN_S = 0.2


class Claim:
    """An exclusive claim on a data directory, meant to be handed to the child that works on it.

    The lock belongs to the open file, not to a process: a child that inherits `fd` keeps the directory claimed after
    this process is gone, and no pid has to be guessed dead or alive. The pid in the file is for people to read.
    Raises DataDirInUse if another holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.fd = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        give_up = time.monotonic() + _LOOKERS_GO_WITHIN_S
        while not _locked(self.fd, fcntl.LOCK_EX):
            if time.monotonic() > give_up:
                found = _holder(self.fd) or "unknown"
                os.close(self.fd)
                raise DataDirInUse(
                    f"{data_dir} is in use by process {found}: stop that process, or choose another data directory."
                )
            time.sleep(_LOOKERS_GO_WITHIN_S / 10)
        self.held_by(os.getpid())

    def held_by(self, pid: int) -> None:
        """Write down who holds the claim."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{pid}\n".encode(), 0)

    def close(self) -> None:
        """Let go of this process' share: the claim ends once the child that inherited it has ended too."""
        os.close(self.fd)


def holder_of(data_dir: Path) -> int | None:
    """Return the process that has claimed a data directory; None if nobody has, 0 if it isn't known who."""
    try:
        handle = os.open(data_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _locked(handle, fcntl.LOCK_SH):
            return None
        return int(_holder(handle) or 0)
    finally:
        os.close(handle)


def _locked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    written = os.pread(handle, 32, 0).decode(errors="replace").strip()
    return written if written.isascii() and written.isdigit() else ""
