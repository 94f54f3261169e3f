"""Keeps a set of child processes running until it is told to stop, then ends them all.

A thread of its own watches the children, so that a plain synchronous program can use it:

    supervisor = Supervisor(on_crash_loop=report)
    signal.signal(signal.SIGTERM, lambda *_: supervisor.request_stop())
    supervisor.start(ProcessSpec("intake", argv, {}, log_path))
    supervisor.wait()
    supervisor.stop_all()
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from processors.local import child
from processors.local.errors import LocalError

_FIRST_DELAY = timedelta(seconds=0.5)
_LONGEST_DELAY = timedelta(seconds=10)
# A process that was up this long had a good start: its next exit is a new trouble, not the same one again.
_STEADY_AFTER = timedelta(seconds=30)
_CRASH_LOOP_AFTER = 5
_LOG_LINES = 20
_WATCH_EVERY_S = 0.05

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run: `env` adds to the environment, the output is appended to `log_path`."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_path: Path


class ProcessPhase(StrEnum):
    """Where a child is in its life."""

    RUNNING = "running"
    # Ended unexpectedly; started again after a delay.
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a child was lost, in all and in a row without a steady run between."""

    total: int = 0
    in_a_row: int = 0

    def after_exit(self, lived: timedelta) -> Restarts:
        """Count one more exit, of a process that had `lived` that long."""
        return Restarts(self.total + 1, 1 if lived >= _STEADY_AFTER else self.in_a_row + 1)

    @property
    def delay(self) -> timedelta:
        """How long to wait before the next start: doubled with each exit in a row, up to a limit."""
        doublings = min(max(self.in_a_row - 1, 0), 10)
        return min(_FIRST_DELAY * (1 << doublings), _LONGEST_DELAY)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A child as seen from outside."""

    name: str
    phase: ProcessPhase
    pid: int | None
    restarts: int
    last_exit_status: int | None
    crash_looping: bool
    last_log_lines: str


@dataclass(slots=True)
class _Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    phase: ProcessPhase = ProcessPhase.RUNNING
    started_at: float = field(default_factory=time.monotonic)
    restart_at: float = 0.0
    restarts: Restarts = Restarts()
    last_exit_status: int | None = None


class Supervisor:
    """Runs child processes, each in a session of its own, and starts again what ends unexpectedly.

    `on_crash_loop` is called, on the watching thread, when a child has ended `crash_loop_after` times in a row without
    a steady run; it goes on being started, since what it lacks may come back. `tell` is called there with a sentence
    whenever a child ends unexpectedly or runs again; else these go to the log. No child outlives this process.
    """

    def __init__(
        self,
        *,
        on_crash_loop: Callable[[ProcessState], None] | None = None,
        tell: Callable[[str], None] | None = None,
        crash_loop_after: int = _CRASH_LOOP_AFTER,
    ) -> None:
        self._on_crash_loop = on_crash_loop
        self.tell = tell or _log.warning
        self._crash_loop_after = crash_loop_after
        self._lock = threading.RLock()
        self._children: dict[str, _Child] = {}
        self._stopping = False
        self._stop_requested = False
        self._watcher: threading.Thread | None = None
        # Told without the lock: whoever listens may ask this supervisor something.
        self._news: list[str] = []

    def start(self, spec: ProcessSpec) -> None:
        """Start a child and keep it running.

        Raises LocalError if there is no such program, the name is taken or everything was stopped.
        """
        with self._lock:
            if self._stopping:
                raise LocalError(f"Cannot start {spec.name}: this supervisor was stopped; create a new one.")
            if spec.name in self._children:
                raise LocalError(f"A process named {spec.name} runs already: give this one another name.")
            self._children[spec.name] = _Child(spec, _spawn(spec))
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
                self._watcher.start()

    def stop(self, name: str, within: timedelta = timedelta(seconds=10)) -> bool:
        """Ask one child to end, kill it after that time, and forget it; tell whether it ended by itself.

        Raises LocalError if there is none of that name.
        """
        with self._lock:
            one = self._named(name)
            del self._children[name]
        return child.end(one.process, within=within)

    def restart(self, name: str) -> None:
        """Stop one child and start it with what `replace_env` set meanwhile. Raises LocalError if there is none."""
        with self._lock:
            spec = self._named(name).spec
        self.stop(name)
        self.start(spec)

    def replace_env(self, name: str, env: Mapping[str, str]) -> None:
        """Set what the child is started with from its next start on. Raises LocalError if there is none of that name."""
        with self._lock:
            one = self._named(name)
            one.spec = replace(one.spec, env=env)

    def _named(self, name: str) -> _Child:
        if name not in self._children:
            raise LocalError(f"There is no process named {name}; there are: {', '.join(self._children) or 'none'}.")
        return self._children[name]

    def pids(self) -> dict[str, int]:
        """Return the process ids of the children that run now, by name."""
        return {name: state.pid for name, state in self.states().items() if state.pid is not None}

    def states(self) -> dict[str, ProcessState]:
        """Return every child's state, by name, with the end of its log if it crash-loops."""
        with self._lock:
            return {name: self._state(one) for name, one in self._children.items()}

    def request_stop(self) -> None:
        """Ask for a stop: all that a signal handler may do here, since it may interrupt any other method half-way."""
        self._stop_requested = True

    def wait(self, within: timedelta | None = None) -> bool:
        """Block until a stop is requested, at most `within` that time; tell whether it was."""
        give_up = None if within is None else time.monotonic() + within.total_seconds()
        while not self._stop_requested and (give_up is None or time.monotonic() < give_up):
            time.sleep(_WATCH_EVERY_S)
        return self._stop_requested

    def stop_all(self, within: timedelta = timedelta(seconds=10)) -> tuple[str, ...]:
        """Ask all children to end at once, kill those left after that time; return the names of the killed."""
        with self._lock:
            self._stopping = self._stop_requested = True
            running = {name: one.process for name, one in self._children.items() if one.process.poll() is None}
        for process in running.values():
            process.terminate()
        give_up = time.monotonic() + within.total_seconds()
        killed = []
        for name, process in running.items():
            left = timedelta(seconds=max(0.0, give_up - time.monotonic()))
            if not child.end(process, within=left):
                killed.append(name)
        with self._lock:
            for one in self._children.values():
                one.phase = ProcessPhase.STOPPED
                one.last_exit_status = one.process.poll()
        return tuple(killed)

    def _watch(self) -> None:
        while True:
            with self._lock:
                if self._stopping:
                    return
                now = time.monotonic()
                reports = [self._state(one) for one in self._children.values() if self._attend(one, now)]
                news, self._news = self._news, []
            for sentence in news:
                self._call(self.tell, sentence)
            for report in reports:
                self._report(report)
            time.sleep(_WATCH_EVERY_S)

    def _attend(self, one: _Child, now: float) -> bool:
        """Notice the child's end, or start it again when its delay is over; tell whether to report a crash loop."""
        if one.phase is ProcessPhase.WAITING:
            if now >= one.restart_at:
                self._restart(one, now)
            return False
        status = one.process.poll()
        return status is not None and self._lost(one, status, timedelta(seconds=now - one.started_at), now)

    def _lost(self, one: _Child, status: int | None, lived: timedelta, now: float) -> bool:
        one.restarts = one.restarts.after_exit(lived)
        one.last_exit_status = status
        one.phase = ProcessPhase.WAITING
        one.restart_at = now + one.restarts.delay.total_seconds()
        how = "cannot be started" if status is None else f"ended {_how(status)} after {lived.total_seconds():.1f} s"
        self._news.append(f"{one.spec.name} {how}; started again in {one.restarts.delay.total_seconds():.1f} s")
        return one.restarts.in_a_row == self._crash_loop_after

    def _restart(self, one: _Child, now: float) -> None:
        try:
            one.process = _spawn(one.spec)
        except (OSError, LocalError):
            _log.exception("%s cannot be started", one.spec.name)
            self._lost(one, None, timedelta(0), now)
            return
        one.phase = ProcessPhase.RUNNING
        one.started_at = now
        self._news.append(f"{one.spec.name} runs again, pid {one.process.pid}")

    def _report(self, state: ProcessState) -> None:
        self._call(self.tell, f"{state.name} keeps ending; the end of its log:\n{state.last_log_lines}")
        if self._on_crash_loop is not None:
            self._call(self._on_crash_loop, state)

    @staticmethod
    def _call(listener: Callable[[_T], None], news: _T) -> None:
        try:
            listener(news)
        except Exception:  # Whatever it is: the others are watched by this thread too
            _log.exception("A callback of the supervisor failed")

    def _state(self, one: _Child) -> ProcessState:
        alive = one.phase is ProcessPhase.RUNNING and one.process.poll() is None
        looping = one.restarts.in_a_row >= self._crash_loop_after and not self._is_steady(one)
        return ProcessState(
            name=one.spec.name,
            phase=one.phase,
            pid=one.process.pid if alive else None,
            restarts=one.restarts.total,
            last_exit_status=one.last_exit_status,
            crash_looping=looping,
            last_log_lines=child.last_lines(one.spec.log_path, _LOG_LINES) if looping else "",
        )

    @staticmethod
    def _is_steady(one: _Child) -> bool:
        up = timedelta(seconds=time.monotonic() - one.started_at)
        return one.phase is ProcessPhase.RUNNING and up >= _STEADY_AFTER


def _how(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def _spawn(spec: ProcessSpec) -> subprocess.Popen[bytes]:
    return child.spawn(spec.argv, log_path=spec.log_path, env=spec.env)
