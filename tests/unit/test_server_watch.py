"""A server that ends by itself is started again, and whoever stops it has the last word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from processors.local import child
from processors.local.claim import Claim, holder_of
from processors.local.errors import LocalError, StartFailed
from processors.local.server import LocalServer
from processors.local.watch import ServerWatch

pytestmark = pytest.mark.timeout(60)


class Sleeper(LocalServer):
    """A server that does nothing; it answers once the file `answers` is in its folder."""

    what = "Sleeper"
    port_name = "sleeper"
    stop_within = timedelta(seconds=5)

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, None, True)
        self.starts = 0

    @property
    def log_path(self) -> Path:
        return self._dir / "log"

    def start(self) -> None:
        self._start_with(lambda: None)

    def _spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        self.starts += 1
        self._take_port()
        argv = (sys.executable, "-c", "import time; time.sleep(600)")
        return child.spawn(argv, log_path=self.log_path, pass_fds=(claim.fd,))

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + 20
        while not (self._dir / "answers").exists():
            self._check_it_lives(process, give_up, timedelta(seconds=20))
            time.sleep(0.01)


class News(list[str]):
    """What a watch says, and waiting for it."""

    def wait_for(self, *starts: str) -> None:
        give_up = time.monotonic() + 15
        while [one[: len(start)] for one, start in zip(self, starts, strict=False)] != list(starts):
            assert time.monotonic() < give_up, self
            time.sleep(0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sleeper]:
    (tmp_path / "answers").touch()
    made = Sleeper(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def told(server: Sleeper) -> Iterator[News]:
    told = News()
    watch = ServerWatch(server, told.append)
    watch.start()
    yield told
    watch.end()
    watch.join()


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def kill(server: Sleeper) -> int:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


@contextmanager
def unstartable(server: Sleeper) -> Iterator[None]:
    """Kill the server, and claim its folder so that it can't be started."""
    folder = server.log_path.parent
    with server._changing:
        kill(server)
        wait_for(lambda: holder_of(folder) is None)
        claim = Claim(folder)
    yield
    claim.close()


def test_a_killed_server_comes_back_and_is_told_of(server: Sleeper, told: News) -> None:
    """At once, at the same port, as often as it is killed."""
    port = server.port
    for count in (1, 2, 3):
        killed = kill(server)
        told.wait_for(*["Sleeper ended unexpectedly", "Sleeper is back after"] * count)
        wait_for(lambda: server.is_up)
        assert server.pid != killed and server.port == port


def test_a_server_that_was_stopped_stays_away(server: Sleeper, told: News) -> None:
    """Stopped, killed or restarted by its owner: that is nobody's business else."""
    for act in (server.stop, server.start, server.kill, server.start, server.restart, server.stop):
        act()
        time.sleep(0.3)
        assert server.is_lost is False
    assert told == [] and server.starts == 4 and server.pid is None


def test_a_server_that_can_not_be_started_is_tried_again(server: Sleeper, told: News) -> None:
    """The reason is told, and once it is gone the server is back without anybody's help."""
    with unstartable(server):
        told.wait_for("Sleeper ended unexpectedly", "", "")
        assert "in use by process" in told[1] and told[1].endswith("Next try in 0.5 s.")
        assert told[2].endswith("Next try in 1 s.")
    wait_for(lambda: server.is_up)
    assert told[-1].startswith("Sleeper is back after")


def test_a_stop_gives_up_a_start_that_is_under_way(server: Sleeper, told: News) -> None:
    """A server that is being revived and doesn't answer is ended by a stop, which needn't wait for its time-out."""
    (server.log_path.parent / "answers").unlink()
    kill(server)
    wait_for(lambda: server.starts == 2)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 3
    time.sleep(0.3)
    assert server.pid is None and server.starts == 2
    assert holder_of(server.log_path.parent) is None


def test_a_start_under_way_is_no_loss(tmp_path: Path) -> None:
    """A first start that takes its time isn't taken for a server that was lost; one that fails is its caller's."""
    server, told = Sleeper(tmp_path), News()
    watch = ServerWatch(server, told.append)
    watch.start()
    starting = threading.Thread(target=server.start)
    starting.start()
    time.sleep(0.5)
    (tmp_path / "answers").touch()
    starting.join()
    assert told == [] and server.starts == 1
    server.stop()
    (tmp_path / "answers").unlink()
    errors: list[str] = []

    def fail() -> None:
        try:
            server.start()
        except StartFailed as error:
            errors.append(str(error))

    failing = threading.Thread(target=fail)
    failing.start()
    wait_for(lambda: server.starts == 2)
    server.stop()
    failing.join()
    assert len(errors) == 1 and "was stopped during its start" in errors[0]
    time.sleep(0.3)
    assert told == [] and server.starts == 2
    watch.end()
    watch.join()


def test_a_holder_is_known_while_it_holds(tmp_path: Path) -> None:
    """The process of a claim, None without one; looking doesn't keep anybody from claiming."""
    assert holder_of(tmp_path) is None
    claim = Claim(tmp_path)
    assert holder_of(tmp_path) == os.getpid()
    with pytest.raises(LocalError, match=f"in use by process {os.getpid()}"):
        Claim(tmp_path)
    claim.close()
    assert holder_of(tmp_path) is None
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            holder_of(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(20):
        Claim(tmp_path).close()
    over.set()
    looking.join()
