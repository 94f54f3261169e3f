"""What the embedded servers share: one child process that keeps its data, and its port, in a folder."""

from __future__ import annotations

import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from processors.local import child
from processors.local.claim import Claim
from processors.local.errors import LocalError, StartFailed
from processors.local.ports import remembered_port, wait_until_free
from processors.local.private import private_folder


class LocalServer(ABC):
    """A server that is started, stopped, killed and started again on the same port and data."""

    #: What messages call it.
    what: ClassVar[str]
    #: The name under which its port is remembered.
    port_name: ClassVar[str]
    stop_within: ClassVar[timedelta]

    def __init__(self, data_dir: Path, port: int | None, die_with_parent: bool) -> None:
        self._dir = data_dir.absolute()
        self._wanted_port = port
        self._port: int | None = None
        self._die_with_parent = die_with_parent
        self._process: subprocess.Popen[bytes] | None = None
        # Whether it is meant to run: one that ends all the same was lost, and can be started again.
        self._wanted = False
        # Held while it is started or ended: whoever watches it does so from another thread.
        self._changing = threading.RLock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port; known once started, the same from then on."""
        if self._port is None:
            raise LocalError(f"The embedded {self.what} has no port before its first start: call start() first.")
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    @abstractmethod
    def log_path(self) -> Path:
        """What the process had to say."""

    @abstractmethod
    def start(self) -> None:
        """Start the server and return once it answers; nothing to do if it runs. Raises LocalError or one of its kinds."""

    def stop(self) -> None:
        """End the server in order; kill it if that takes too long. A start under way in another thread is given up."""
        self._wanted = False
        with self._changing:
            if self._process is not None:
                child.end(self._process, within=self.stop_within)
                self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL: as a power cut would, but what it had written stays in the page cache."""
        self._wanted = False
        with self._changing:
            self._end_now()

    def restart(self) -> None:
        """Stop, then start on the same port and data."""
        with self._changing:
            self.stop()
            self.start()

    @property
    def is_lost(self) -> bool:
        """Whether it is meant to run, doesn't, and nobody is about to start or stop it."""
        return self._wanted and self._is_settled() and self.pid is None

    @property
    def is_up(self) -> bool:
        """Whether it runs and has answered since its start."""
        return self._is_settled() and self.pid is not None

    def _is_settled(self) -> bool:
        if not self._changing.acquire(blocking=False):
            return False
        self._changing.release()
        return True

    def revive(self) -> bool:
        """Start a server that ended by itself; tell whether there was one. Raises as `start` does; then try again."""
        with self._changing:
            if not self._wanted or self.pid is not None:
                return False
            self._launch()
            return True

    def _start_with(self, prepare: Callable[[], None]) -> None:
        with self._changing:
            if self.pid is not None:
                return
            prepare()
            self._wanted = True
            try:
                self._launch()
            except BaseException:
                self._wanted = False
                raise

    def _end_now(self) -> None:
        if self._process is not None:
            child.kill(self._process)
            self._process = None

    def _check_it_lives(self, process: subprocess.Popen[bytes], give_up: float, within: timedelta) -> None:
        """Raise StartFailed if the process that is waited for has ended, takes too long or isn't wanted any more."""
        status = process.poll()
        if not self._wanted:
            what = "was stopped during its start"
        elif status is not None:
            what = f"ended with status {status} during its start"
        elif time.monotonic() > give_up:
            what = f"did not answer within {within}"
        else:
            return
        raise StartFailed(
            f"The embedded {self.what} {what}. The end of {self.log_path}:\n{child.last_lines(self.log_path)}"
        )

    def _take_port(self) -> int:
        """Return the port of the last start if it can be had again, else the wanted or a free one; remember it."""
        if self._port is not None:
            wait_until_free(self._port)
        wanted = self._port or self._wanted_port
        self._port = remembered_port(self._dir / "ports.json", self.port_name, wanted=wanted)
        return self._port

    def _launch(self) -> None:
        """Claim the folder, start the process, wait until it answers; a server that doesn't is killed."""
        claim = Claim(private_folder(self._dir))
        try:
            self._process = self._spawn(claim)
            claim.held_by(self._process.pid)
        finally:
            claim.close()
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self._end_now()
            raise

    @abstractmethod
    def _spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        """Start the process, which inherits the claim."""

    @abstractmethod
    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        """Return once clients are answered; raise StartFailed if that takes too long or the process ends."""
