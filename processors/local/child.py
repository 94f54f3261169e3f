"""Child processes that own their process group, log to a file and die with their parent."""

from __future__ import annotations

import atexit
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path

from processors.local.errors import LocalError

# Runs in the child before the program itself: asks Linux to kill it with its parent, and ends it at once if the parent
# was gone before it could ask. A program of its own since a preexec_fn may deadlock in a process with threads.
_LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
_REAP_WITHIN_S = 5.0
_BARE = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_Start = Callable[[], subprocess.Popen[bytes]]


def spawn(
    argv: Sequence[str],
    *,
    log_path: Path,
    env: Mapping[str, str] | None = None,
    keep_env: bool = True,
    cwd: Path | None = None,
    pass_fds: tuple[int, ...] = (),
    die_with_parent: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log_path`; `env` adds to the environment.

    Without `keep_env` it sees nothing of ours but where programs and libraries are.
    With `die_with_parent` it is killed when this process ends: by Linux however that comes about, elsewhere only at
    a normal exit.
    Raises LocalError if there is no such program.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise LocalError(f"Cannot start {argv[0]}: the program does not exist; check the installation and PATH.")
    command = [program, *argv[1:]]
    if die_with_parent and sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command]
    inherited = dict(os.environ) if keep_env else bare_environment()
    log_path.parent.mkdir(parents=True, exist_ok=True)

    def start() -> subprocess.Popen[bytes]:
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited, **(env or {})},
                cwd=cwd,
                pass_fds=pass_fds,
                # Ctrl-C in the terminal reaches the parent only, which then ends its children in order.
                start_new_session=True,
            )
        if die_with_parent:
            # Noted here: a signal's exception may keep the caller from ever seeing the process.
            _leashed.add(process)
        return process

    return _spawner.call(start)


def bare_environment() -> dict[str, str]:
    """Return what a program needs of our environment to run at all: no secret is in it."""
    kept = {name: value for name in _BARE if (value := os.environ.get(name))}
    if paths := os.environ.get("PYTHONPATH"):
        # The child may stand in another folder.
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths.split(os.pathsep) if path)
    return kept


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with all that it started, and reap it."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
        process.wait(_REAP_WITHIN_S)
    _leashed.discard(process)


def end(process: subprocess.Popen[bytes], *, within: timedelta) -> bool:
    """Ask the process to end and kill it if it has not `within` that time; tell whether it ended by itself."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within.total_seconds())
        except subprocess.TimeoutExpired:
            kill(process)
            return False
    _leashed.discard(process)
    return True


def last_lines(log_path: Path, count: int = 20) -> str:
    """Return the end of a log file, for an error message."""
    try:
        with log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 16_384))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-count:]) or "(empty log)"


class _Spawner:
    """One thread that lives as long as the process and starts every child.

    Linux kills a leashed child when the *thread* that started it ends, and callers come and go on pool threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[_Start, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, start: _Start) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="child-spawner", daemon=True)
                self._thread.start()
        done: Future[subprocess.Popen[bytes]] = Future()
        self._calls.put((start, done))
        return done.result()

    def _run(self) -> None:
        while True:
            start, done = self._calls.get()
            try:
                done.set_result(start())
            except Exception as error:  # Handed to the caller, who waits for it.
                done.set_exception(error)


_spawner = _Spawner()
_leashed: set[subprocess.Popen[bytes]] = set()


def _forget_parents_children() -> None:
    """After a fork the thread is gone, and the children are the parent's to end."""
    global _spawner
    _spawner = _Spawner()
    _leashed.clear()


def _kill_leashed() -> None:
    for process in list(_leashed):
        kill(process)


os.register_at_fork(after_in_child=_forget_parents_children)
atexit.register(_kill_leashed)
