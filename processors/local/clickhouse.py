"""A ClickHouse engine behind ClickHouse's HTTP interface on loopback, without Docker.

This is not the ClickHouse server: `chdb_front` serves chDB, the same engine as a library. Types, MergeTree tables,
FINAL and error codes are the real ones; more users, replication, clusters and streamed results are not there.
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
from processors.local.chdb_callers import USER
from processors.local.chdb_rights import write_rights
from processors.local.chdb_server import PASSWORD_FILE, TEMPORARY
from processors.local.claim import Claim
from processors.local.errors import LocalError
from processors.local.private import kept_password
from processors.local.server import LocalServer

_START_WITHIN = timedelta(seconds=90)
_POLL_S = 0.05


class EmbeddedClickHouse(LocalServer):
    """One chDB process that keeps its tables, and its port, in `data_dir`; an acknowledged row survives a SIGKILL.

    It answers whoever knows `password`, which is made on the first start and kept in the folder, and no web page. The
    folder is its owner's alone. Statements reach the tables in it, no other file, address or program.

    `port` is chosen on the first start and kept, unless given. With `faults`, which only tests ask for, POST /_faults
    {"mode": "ok" | "refuse" | "drop-mid-insert" | "hang", "count": N} makes it misbehave. With `die_with_parent` it
    does not outlive this process.
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
    def user(self) -> str:
        """As whom clients log in."""
        return USER

    @property
    def password(self) -> str:
        """What clients log in with; made on the first start."""
        return kept_password(self.password_file)

    @property
    def password_file(self) -> Path:
        """Where the password is kept, for the owner alone."""
        return self._dir / PASSWORD_FILE

    @property
    def log_path(self) -> Path:
        """What the process had to say."""
        return self._dir / "clickhouse.log"

    def start(self) -> None:
        """Start the engine and return once it answers; nothing to do if it runs.

        Raises DataDirInUse, StartFailed, or LocalError when chDB is not installed or the port is taken.
        """
        self._start_with(_check_installation)

    def _spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        self._take_port()
        kept_password(self.password_file)
        write_rights(self._dir)
        return child.spawn(
            self._command(),
            log_path=self.log_path,
            # As the server's image has it: a DateTime without a zone means the same on every machine.
            env={"TZ": "UTC", "HOME": str(self._dir), "TMPDIR": str(self._dir / TEMPORARY)},
            keep_env=False,
            cwd=self._dir,
            pass_fds=(claim.fd,),
            die_with_parent=self._die_with_parent,
        )

    def _command(self) -> list[str]:
        # -P: a user's own folder named `schemas` or `processors` in the current directory would be imported for ours.
        command = [sys.executable, "-P", "-m", "processors.local.chdb_server", f"--port={self._port}"]
        return [*command, "--faults"] if self._faults else command

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _START_WITHIN.total_seconds()
        while not _answers(self.port):
            self._check_it_lives(process, give_up, _START_WITHIN)
            time.sleep(_POLL_S)


def _check_installation() -> None:
    if importlib.util.find_spec("chdb") is None:
        raise LocalError("The embedded ClickHouse needs chDB: pip install 'scrapesaga[local]'.")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
