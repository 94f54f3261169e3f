"""One live process a data directory: a lock that its holder's death releases, whichever way it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from processors.local.errors import DataDirInUse


class Claim:
    """An exclusive claim on a data directory, meant to be handed to the child that works on it.

    The lock belongs to the open file, not to a process: a child that inherits `fd` keeps the directory claimed after
    this process is gone, and no pid has to be guessed dead or alive. The pid in the file is for people to read.
    Raises DataDirInUse if another holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self.fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self.fd)
            raise DataDirInUse(
                f"{data_dir} is in use by process {holder}: stop that process, or choose another data directory."
            ) from None
        self.held_by(os.getpid())

    def held_by(self, pid: int) -> None:
        """Write down who holds the claim."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{pid}\n".encode(), 0)

    def close(self) -> None:
        """Let go of this process' share: the claim ends once the child that inherited it has ended too."""
        os.close(self.fd)
