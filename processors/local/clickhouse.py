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

from processors.local import child
from processors.local.claim import Claim
from processors.local.errors import LocalError, StartFailed
from processors.local.server import LocalServer

_START_WITHIN = timedelta(seconds=90)
_POLL_S = 0.05


class EmbeddedClickHouse(LocalServer):
    """One chDB process that keeps its tables, and its port, in `data_dir`; an acknowledged row survives a SIGKILL.

    `port` is chosen on the first start and kept, unless given. With `faults`, POST /_faults {"mode": "ok" | "refuse" |
    "drop-mid-insert" | "hang", "count": N} makes it misbehave. With `die_with_parent` it does not outlive this process.
    """

    what = "ClickHouse"
    port_name = "clickhouse"
    stop_within = timedelta(seconds=3)

    def __init__(
        self, data_dir: Path, *, port: int | None = None, faults: bool = False, die_with_parent: bool = True
    ) -> None:
        super().__init__(data_dir, port, die_with_parent)
        self._faults = faults

    @property
    def url(self) -> str:
        """Where clients connect; known once started, the same from then on."""
        return f"http://127.0.0.1:{self.port}"

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
        self._launch()

    def _spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        self._take_port()
        return child.spawn(
            self._command(),
            log_path=self.log_path,
            # As the server's image has it: a DateTime without a zone means the same on every machine.
            env={"TZ": "UTC"},
            pass_fds=(claim.fd,),
            die_with_parent=self._die_with_parent,
        )

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
