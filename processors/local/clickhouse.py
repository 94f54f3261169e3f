"""A ClickHouse engine behind ClickHouse's HTTP interface on loopback, without Docker.

This is not the ClickHouse server: `chdb_front` serves chDB, the same engine as a library. Types, MergeTree tables,
FINAL and error codes are the real ones; users, replication, clusters and streamed results are not there.
"""

from __future__ import annotations

import http.client
import importlib.util
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from processors.local import child
from processors.local.claim import Claim
from processors.local.errors import LocalError, StartFailed
from processors.local.ports import remembered_port, wait_until_free

_START_WITHIN = timedelta(seconds=30)
_STOP_WITHIN = timedelta(seconds=3)
_POLL_S = 0.05


class EmbeddedClickHouse:
    """One chDB process that keeps its tables, and its port, in `data_dir`; an acknowledged row survives a SIGKILL.

    `port` is chosen on the first start and kept, unless given. With `faults`, POST /_faults {"mode": "ok" | "refuse" |
    "drop-mid-insert" | "hang", "count": N} makes it misbehave. With `die_with_parent` it does not outlive this process.
    """

    def __init__(
        self, data_dir: Path, *, port: int | None = None, faults: bool = False, die_with_parent: bool = True
    ) -> None:
        self._dir = data_dir.absolute()
        self._wanted_port = port
        self._port: int | None = None
        self._faults = faults
        self._die_with_parent = die_with_parent
        self._process: subprocess.Popen[bytes] | None = None

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
            raise LocalError("The embedded ClickHouse has no port before its first start: call start() first.")
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect; known once started, the same from then on."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log_path(self) -> Path:
        """What the process had to say."""
        return self._dir / "clickhouse.log"

    def start(self) -> None:
        """Start the engine and return once it answers; nothing to do if it runs.

        Raises DataDirInUse, StartFailed, or LocalError when chDB is not installed or the port is taken.
        """
        if self.pid is not None:
            return
        if importlib.util.find_spec("chdb") is None:
            raise LocalError("The embedded ClickHouse needs chDB: pip install 'scrapesaga[local]'.")
        claim = Claim(self._dir)
        try:
            if self._port is not None:
                wait_until_free(self._port)
            self._port = remembered_port(self._dir / "ports.json", "clickhouse", wanted=self._port or self._wanted_port)
            self._process = child.spawn(
                self._command(),
                log_path=self.log_path,
                # As the server's image has it: a DateTime without a zone means the same on every machine.
                env={"TZ": "UTC"},
                pass_fds=(claim.fd,),
                die_with_parent=self._die_with_parent,
            )
            claim.held_by(self._process.pid)
        finally:
            claim.close()
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the engine in order; kill it if that takes too long."""
        if self._process is not None:
            child.end(self._process, within=_STOP_WITHIN)
            self._process = None

    def kill(self) -> None:
        """End the engine with SIGKILL."""
        if self._process is not None:
            child.kill(self._process)
            self._process = None

    def restart(self) -> None:
        """Stop, then start on the same port and data."""
        self.stop()
        self.start()

    def _command(self) -> list[str]:
        # -P: a user's own folder named `schemas` or `processors` in the current directory would be imported for ours.
        command = [sys.executable, "-P", "-m", "processors.local.chdb_front"]
        command += [f"--path={self._dir / 'data'}", f"--port={self._port}"]
        return [*command, "--faults"] if self._faults else command

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _START_WITHIN.total_seconds()
        while not _answers(self.port):
            status = process.poll()
            if status is not None or time.monotonic() > give_up:
                what = f"did not answer within {_START_WITHIN}" if status is None else f"ended with status {status}"
                raise StartFailed(
                    f"The embedded ClickHouse {what}. The end of {self.log_path}:\n{child.last_lines(self.log_path)}"
                )
            time.sleep(_POLL_S)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
