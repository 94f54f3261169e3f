"""The supervisor: children come back when lost, all go when told, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from processors.local.errors import LocalError
from processors.local.supervisor import ProcessPhase, ProcessSpec, ProcessState, Restarts, Supervisor

pytestmark = pytest.mark.timeout(60)

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)


def wait_for(condition: Callable[[], bool], *, seconds: float = 15, what: str) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} took over {seconds} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(") ", 1)[1][0] != "Z"


def python(name: str, code: str, folder: Path, **env: str) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code), env, folder / f"{name}.log")


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    running = Supervisor()
    yield running
    running.stop_all(timedelta(seconds=0))


def test_the_delay_doubles_up_to_ten_seconds() -> None:
    """Exits in a row wait longer each time, up to a limit that holds for ever."""
    restarts, delays = Restarts(), []
    for _ in range(7):
        restarts = restarts.after_exit(timedelta(seconds=1))
        delays.append(restarts.delay.total_seconds())
    assert delays == [0.5, 1, 2, 4, 8, 10, 10]
    assert Restarts(10_000, 10_000).delay == timedelta(seconds=10)


def test_a_steady_run_forgives_earlier_exits() -> None:
    """After thirty seconds up the next exit counts as the first, and the total goes on."""
    restarts = Restarts(total=9, in_a_row=9)
    assert restarts.after_exit(timedelta(seconds=29.9)) == Restarts(10, 10)
    assert restarts.after_exit(timedelta(seconds=30)) == Restarts(10, 1)


def test_a_killed_child_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    """A child that is killed is started again, as another process, and counted."""
    supervisor.start(python("one", SLEEPER, tmp_path))
    first = supervisor.pids()["one"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: supervisor.pids().get("one", first) != first, what="the restart")
    state = supervisor.states()["one"]
    assert (state.phase, state.restarts, state.last_exit_status) == (ProcessPhase.RUNNING, 1, -signal.SIGKILL)
    assert not state.crash_looping


def test_a_clean_exit_is_unexpected_too(supervisor: Supervisor, tmp_path: Path) -> None:
    """A child is meant to run: leaving with status 0 is no reason to stay away."""
    supervisor.start(python("one", "print('once')", tmp_path))
    wait_for(lambda: (tmp_path / "one.log").read_text().count("once") >= 2, what="the second run")
    assert supervisor.states()["one"].last_exit_status == 0


def test_a_crash_loop_is_reported_once_with_the_end_of_the_log(tmp_path: Path) -> None:
    """The operator is told which child cannot start and what it said; it goes on being tried."""
    reports: list[ProcessState] = []
    supervisor = Supervisor(on_crash_loop=reports.append, crash_loop_after=2)
    try:
        supervisor.start(python("broken", "raise SystemExit('no such broker')", tmp_path))
        wait_for(lambda: supervisor.states()["broken"].restarts >= 3, what="the third exit")
    finally:
        supervisor.stop_all()
    assert [(report.name, report.restarts, report.crash_looping) for report in reports] == [("broken", 2, True)]
    assert reports[0].last_log_lines.splitlines()[-1] == "no such broker"


def test_each_loss_and_return_is_told_at_once(tmp_path: Path) -> None:
    """Whoever listens hears how a child ended, when it is started again, and that it runs; and may ask back."""
    told: list[str] = []
    listening: Supervisor = Supervisor(tell=lambda sentence: told.append(f"{sentence} [{len(listening.states())}]"))
    supervisor = listening
    try:
        supervisor.start(python("one", SLEEPER, tmp_path))
        os.kill(supervisor.pids()["one"], signal.SIGKILL)
        wait_for(lambda: len(told) == 2, seconds=5, what="the news")
    finally:
        supervisor.stop_all()
    assert told[0].startswith("one ended by SIGKILL after") and told[0].endswith("started again in 0.5 s [1]")
    assert told[1].startswith("one runs again, pid ") and len(told) == 2


def test_a_restart_brings_what_was_set_meanwhile(supervisor: Supervisor, tmp_path: Path) -> None:
    """A new environment holds from the next start on, whoever causes it; an unknown name is told what there is."""
    code = f"import os, time; print(os.environ['ROLE'], flush=True); {SLEEPER}"
    supervisor.start(python("one", code, tmp_path, ROLE="first"))
    log = tmp_path / "one.log"
    wait_for(lambda: log.read_text().split() == ["first"], what="the first start")
    supervisor.replace_env("one", {"ROLE": "second"})
    supervisor.restart("one")
    wait_for(lambda: log.read_text().split() == ["first", "second"], what="the restart")
    supervisor.replace_env("one", {"ROLE": "third"})
    os.kill(supervisor.pids()["one"], signal.SIGKILL)
    wait_for(lambda: log.read_text().split() == ["first", "second", "third"], what="the return")
    for act in (supervisor.restart, lambda name: supervisor.replace_env(name, {})):
        with pytest.raises(LocalError, match="no process named two; there are: one"):
            act("two")


def test_a_failing_callback_does_not_end_the_watch(tmp_path: Path) -> None:
    """An error in the report leaves the children watched."""

    def report(_state: ProcessState) -> None:
        raise ValueError("the terminal is gone")

    def tell(_sentence: str) -> None:
        raise BrokenPipeError

    supervisor = Supervisor(on_crash_loop=report, tell=tell, crash_loop_after=1)
    try:
        supervisor.start(python("broken", "raise SystemExit(3)", tmp_path))
        wait_for(lambda: supervisor.states()["broken"].restarts >= 2, what="the second exit")
    finally:
        supervisor.stop_all()


def test_the_environment_is_added_to(supervisor: Supervisor, tmp_path: Path) -> None:
    """A child sees its own variables beside those of its parent."""
    code = "import os; print(os.environ['ROLE'], 'PATH' in os.environ)"
    supervisor.start(python("one", code, tmp_path, ROLE="intake"))
    wait_for(lambda: "intake True" in (tmp_path / "one.log").read_text(), what="the output")


def test_a_stop_asks_all_and_kills_the_deaf(supervisor: Supervisor, tmp_path: Path) -> None:
    """Children that listen end by themselves; the others are killed when the time is over, and none comes back."""
    supervisor.start(python("polite", SLEEPER, tmp_path))
    supervisor.start(python("deaf", STUBBORN, tmp_path))
    supervisor.start(python("paused", SLEEPER, tmp_path))
    wait_for(lambda: "deaf" in (tmp_path / "deaf.log").read_text(), what="the handler")
    pids = supervisor.pids()
    os.kill(pids["paused"], signal.SIGSTOP)
    # A SIGTERM that arrives before the stop has taken effect would still end it.
    assert os.WIFSTOPPED(os.waitpid(pids["paused"], os.WUNTRACED)[1])
    began = time.monotonic()
    assert set(supervisor.stop_all(timedelta(seconds=1))) == {"deaf", "paused"}
    assert 1 <= time.monotonic() - began < 4
    assert not any(is_alive(pid) for pid in pids.values())
    states = supervisor.states().values()
    assert {state.phase for state in states} == {ProcessPhase.STOPPED}
    assert {state.name: state.last_exit_status for state in states}["polite"] == -signal.SIGTERM
    assert supervisor.pids() == {}


def test_one_child_can_be_stopped_for_good(supervisor: Supervisor, tmp_path: Path) -> None:
    """It ends, stays away and frees its name, while the others run on; an unknown name is told what there is."""
    supervisor.start(python("one", SLEEPER, tmp_path))
    supervisor.start(python("two", SLEEPER, tmp_path))
    pids = supervisor.pids()
    assert supervisor.stop("one")
    assert not is_alive(pids["one"])
    assert supervisor.pids() == {"two": pids["two"]}
    with pytest.raises(LocalError, match="no process named one; there are: two"):
        supervisor.stop("one")
    supervisor.start(python("one", SLEEPER, tmp_path))
    assert set(supervisor.pids()) == {"one", "two"}


def test_a_stop_does_not_wait_for_children_that_listen(supervisor: Supervisor, tmp_path: Path) -> None:
    """The time given to a stop is a limit, not a delay."""
    for number in range(4):
        supervisor.start(python(f"polite-{number}", SLEEPER, tmp_path))
    began = time.monotonic()
    assert supervisor.stop_all(timedelta(seconds=30)) == ()
    assert time.monotonic() - began < 5


def test_what_a_deaf_child_started_goes_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    """A kill takes the child's whole process group."""
    code = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).pid, flush=True);"
        + STUBBORN
    )
    supervisor.start(python("family", code, tmp_path))
    log = tmp_path / "family.log"
    wait_for(lambda: "deaf" in log.read_text(), what="the handler")
    grandchild = int(log.read_text().split()[0])
    assert supervisor.stop_all(timedelta(seconds=0)) == ("family",)
    wait_for(lambda: not is_alive(grandchild), what="the grandchild's end")


def test_ctrl_c_in_the_terminal_reaches_the_parent_only(supervisor: Supervisor, tmp_path: Path) -> None:
    """Each child leads a session of its own, away from the terminal's process group."""
    supervisor.start(python("one", SLEEPER, tmp_path))
    pid = supervisor.pids()["one"]
    assert os.getsid(pid) == pid != os.getsid(0)


def test_a_missing_program_is_an_error_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program that is not there is no crash loop but a mistake to correct."""
    with pytest.raises(LocalError, match="no-such-program: the program does not exist"):
        supervisor.start(ProcessSpec("one", ("no-such-program",), {}, tmp_path / "log"))
    assert supervisor.states() == {}


def test_names_are_unique_and_a_stopped_supervisor_stays_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    """Two children of one name cannot be told apart; a stop cannot be raced by a start."""
    supervisor.start(python("one", SLEEPER, tmp_path))
    with pytest.raises(LocalError, match="give this one another name"):
        supervisor.start(python("one", SLEEPER, tmp_path))
    supervisor.stop_all()
    with pytest.raises(LocalError, match="create a new one"):
        supervisor.start(python("two", SLEEPER, tmp_path))


def test_the_wait_is_bounded(supervisor: Supervisor) -> None:
    """Nobody asked for a stop: the wait says so when its time is over; asked, it ends at once."""
    assert not supervisor.wait(timedelta(seconds=0))
    threading.Thread(target=supervisor.request_stop).start()
    assert supervisor.wait(timedelta(seconds=10))


PARENT = """
import signal, sys
from pathlib import Path
from processors.local.supervisor import ProcessSpec, Supervisor
supervisor = Supervisor()
signal.signal(signal.SIGTERM, lambda *_: supervisor.request_stop())
supervisor.start(ProcessSpec("one", (sys.executable, "-c", "import time; time.sleep(600)"), {}, Path(sys.argv[1])))
print(supervisor.pids()["one"], flush=True)
supervisor.wait()
print("stopping", supervisor.stop_all(), flush=True)
"""


def test_a_signal_stops_everything_in_order(tmp_path: Path) -> None:
    """SIGTERM to the parent ends the children first, then the parent, with status 0."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.terminate()
        assert parent.stdout.read() == "stopping ()\n"
        assert parent.wait(10) == 0
    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child whose parent was killed")
def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """A SIGKILL of the parent leaves no child behind."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    wait_for(lambda: not is_alive(pid), what="the child's end")
