"""`scrapesaga up` as real processes: in the background, killed in parts, changed meanwhile, stopped at any moment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest

from processors.local.claim import holder_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(420)]

CLI = "import sys; from processors.cli import main; sys.exit(main())"
BACKGROUND = "import sys; from processors.local.background import main; sys.exit(main(sys.argv[1:]))"
ROOT = Path(__file__).resolve().parents[2]
# Two cores that others use, too.
WITHIN_S = 180.0
PIPELINE = """\
name: shop
steps:
  - {{use: fetch, timeout: 5s, retry: {{attempts: {attempts}, base: 100ms}}}}
  - {{use: parse, with: {{preset: product}}}}
{more}"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < give_up, f"{what} took over {WITHIN_S:.0f} s"
        time.sleep(0.2)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPESAGA_")}
    return {**kept, "PYTHONPATH": str(ROOT), "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8"}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(") ", 1)[1][0] != "Z"


@dataclass(frozen=True)
class Place:
    """A folder in which a user works, with a pipeline file in it."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / ".scrapesaga"

    @property
    def log(self) -> str:
        return (self.data / "logs" / "up.log").read_text()

    def write(self, attempts: int = 2, more: str = "") -> None:
        (self.folder / "shop.yaml").write_text(PIPELINE.format(attempts=attempts, more=more))

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", CLI, *arguments]
        return subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=WITHIN_S * 1.5,
            check=False,
        )

    def submit(self, job: str) -> None:
        """Ask for a page of a server that isn't there."""
        assert self.run("submit", "http://127.0.0.1:9/p", "--pipeline", "shop", "--job-id", job).returncode == 0

    def state(self, job: str) -> dict[str, Any]:
        """A job's state, empty without one."""
        found = self.run("status", job, "--json").stdout
        return dict(json.loads(found)) if found else {}

    def pid_of(self, role: str) -> int:
        """The process of a role, as `up` has last said."""
        told = re.findall(rf"^ +{role} +pid (\d+)|{role} runs(?: again)?, pid (\d+)", self.log, re.MULTILINE)
        return int("".join(told[-1]))

    def claimed(self) -> list[int]:
        """The processes that hold the engine's folder, and those of its servers."""
        holders = (holder_of(self.data / name) for name in ("", "kafka", "clickhouse"))
        return [holder for holder in holders if holder is not None]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An engine that was started in the background, for the tests in their order."""
    made = Place(tmp_path_factory.mktemp("up"))
    made.write()
    began = made.run("up", "--detach", "--pipelines", "shop.yaml")
    try:
        assert began.returncode == 0, began.stderr
        assert "up in the background, pid" in began.stdout
        yield made
    finally:
        made.run("down")
        for pid in made.claimed():
            os.kill(pid, signal.SIGKILL)


def test_a_command_in_the_same_folder_finds_the_engine(place: Place) -> None:
    """Without a variable set: address and password come from the folder. The engine outlives the terminal of its start."""
    submitted = place.run("submit", "http://127.0.0.1:9/p/1", "--pipeline", "shop")
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: "COMPENSATED" in place.run("list").stdout, "the job's end")
    assert place.run("topics", "verify").returncode == 0
    assert place.run("audit", "verify").returncode == 0
    pid = holder_of(place.data)
    assert pid is not None and os.getsid(pid) == pid


def test_a_command_in_another_folder_says_that_there_is_none(place: Place, tmp_path: Path) -> None:
    """With the place where it looked, and what to do; with the folder named it works from there."""
    for command in (("list",), ("submit", "http://127.0.0.1:9/"), ("topics", "verify")):
        found = place.run(*command, cwd=tmp_path)
        assert found.returncode == 3 and "No engine here" in found.stderr, found.stderr
        assert len(found.stderr.splitlines()) == 1
    assert "No engine runs in" in place.run("down", cwd=tmp_path).stderr
    assert place.run("logs", "--data-dir", str(place.data), "intake", cwd=tmp_path).returncode == 0


def test_a_second_engine_on_the_folder_is_refused(place: Place) -> None:
    """In the foreground and in the background, with the first one's process."""
    pid = holder_of(place.data)
    for how in ((), ("--detach",)):
        second = place.run("up", *how, "--pipelines", "shop.yaml")
        assert second.returncode == 3 and f"in use by process {pid}" in second.stderr
    assert holder_of(place.data) == pid


def test_no_password_is_shown(place: Place) -> None:
    """Neither in what `up` says, nor in up.env, nor on any of its processes' command lines."""
    secrets = [(place.data / name / "password").read_text().strip() for name in ("kafka", "clickhouse")]
    seen = place.log + (place.data / "up.env").read_text()
    if sys.platform == "linux":
        for pid in [*place.claimed(), *map(place.pid_of, ("coordinator", "intake", "fetch", "parse"))]:
            seen += Path(f"/proc/{pid}/cmdline").read_text()
    assert not [secret for secret in secrets if secret in seen]
    assert (place.data.stat().st_mode & 0o777, (place.data / "up.env").stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize(("server", "name"), [("clickhouse", "ClickHouse"), ("kafka", "Kafka")])
def test_a_killed_server_comes_back(place: Place, server: str, name: str) -> None:
    """It is told of at once, starts by itself at the same address with its data, and jobs go on."""
    told = place.log.count(f"{name} is back")
    killed = holder_of(place.data / server)
    assert killed
    before = place.run("list").stdout
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: place.log.count(f"{name} is back") == told + 1, f"{name}'s return")
    assert f"{name} ended unexpectedly; restarting it" in place.log
    assert holder_of(place.data / server) not in (None, killed)
    assert place.run("list").stdout == before
    place.submit(f"after-{server}")
    wait_for(lambda: place.state(f"after-{server}").get("phase") == "COMPENSATED", "the job's end")


def test_a_killed_role_is_told_of_at_once(place: Place) -> None:
    """How it ended, and that it runs again."""
    killed = place.pid_of("fetch")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: place.pid_of("fetch") != killed, "the role's return")
    assert "fetch ended by SIGKILL after" in place.log and alive(place.pid_of("fetch"))
    assert "fetch ended by SIGKILL" in place.run("logs", "up", "-n", "50").stdout


def test_a_changed_pipeline_is_taken_up(place: Place) -> None:
    """A wrong file is told and left; a right one is followed by new jobs; those in flight keep their plan to their end."""
    pid = holder_of(place.data)
    (place.folder / "shop.yaml").write_text("name: shop\nsteps: [{use: fecth}]\n")
    wait_for(lambda: "the changed pipelines are not taken up" in place.log, "the complaint")
    place.write(attempts=1000, more="  - {use: notify}\n")
    wait_for(lambda: "taken up: shop; new steps: notify" in place.log, "the change")
    place.submit("in-flight")
    wait_for(lambda: place.state("in-flight").get("phase") == "RUNNING", "the job's start")
    place.write(attempts=1)
    wait_for(lambda: "taken up: shop; for sagas in flight alone: notify" in place.log, "the second change")
    place.submit("changed")
    wait_for(lambda: place.state("changed").get("phase") == "COMPENSATED", "the job's end")
    before, after = place.state("in-flight"), place.state("changed")
    assert before["phase"] == "RUNNING" and before["plan_hash"] != after["plan_hash"]
    assert (len(before["steps"]), len(after["steps"])) == (3, 2)
    # The worker of the step that went is served on, even when it is lost.
    killed = place.pid_of("notify")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: place.pid_of("notify") != killed, "the step's return")
    assert place.run("cancel", "in-flight", "--reason", "a test", "--wait", "60").returncode == 0
    wait_for(lambda: place.state("in-flight")["phase"] == "COMPENSATED", "the cancelled job's end")
    assert place.state("in-flight")["plan_hash"] == before["plan_hash"]
    assert "keeps ending" not in place.log and holder_of(place.data) == pid


def test_down_ends_everything_and_keeps_the_data(place: Place) -> None:
    """No process is left; a command says that the engine isn't running; the next start has the jobs."""
    place.submit("before-down")
    pids = [*place.claimed(), *map(place.pid_of, ("coordinator", "fetch"))]
    assert place.run("down").returncode == 0
    assert place.claimed() == [] and not any(map(alive, pids))
    stopped = place.run("list")
    assert stopped.returncode == 3 and "isn't running: start it with `scrapesaga up`" in stopped.stderr
    assert place.run("up", "-d", "--pipelines", "shop.yaml").returncode == 0
    wait_for(lambda: place.state("before-down").get("phase") == "COMPENSATED", "the job that was there before")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("fresh"))
    made.write()
    made.data.mkdir()
    return made


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting Kafka", "starting ClickHouse", "creating the topics", "waiting for"])
def test_a_signal_is_heeded_at_any_moment_of_the_start(fresh: Place, moment: str, which: signal.Signals) -> None:
    """While a server is formatted or started, topics are made or roles wait: all that was started is ended in order."""
    with starting(fresh) as (process, news):
        said = next(line for line in iter(news.readline, "") if line.startswith(moment))
        assert said
        began = time.monotonic()
        process.send_signal(which)
        assert process.wait(60) == 130
        assert time.monotonic() - began < 30
    assert fresh.claimed() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends what a killed parent leaves")
def test_a_second_signal_does_not_wait(fresh: Place) -> None:
    """With a role that doesn't listen, a stop takes six seconds; pressing Ctrl-C again ends everything at once."""
    with starting(fresh) as (process, news):
        wait_for(lambda: news.readline() in ("up\n", ""), "the start")
        frozen = role_pids(process.pid)[0]
        os.kill(frozen, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        time.sleep(2)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - began < 3
        wait_for(lambda: not alive(frozen), "the frozen role's end")
    wait_for(lambda: fresh.claimed() == [], "the servers' end")


class starting:  # noqa: N801  # reads like a function
    """An engine in this process's hands, and the pipe on which it says what it is doing."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> tuple[subprocess.Popen[bytes], TextIO]:
        reading, writing = os.pipe()
        told = {
            "data_dir": str(self._place.data),
            "pipelines": [str(self._place.folder / "shop.yaml")],
            "bootstrap_servers": None,
            "clickhouse_url": None,
            "processes": "each",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BACKGROUND, json.dumps(told), str(writing)],
            env=environment(),
            pass_fds=(writing,),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(writing)
        self._news = os.fdopen(reading, encoding="utf-8")
        return self._process, self._news

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        self._news.close()


def role_pids(parent: int) -> list[int]:
    """The processes of roles that a supervisor has started, by what its kernel knows."""
    found = []
    for thread in Path(f"/proc/{parent}/task").iterdir():
        for pid in (thread / "children").read_text().split():
            if b"processors.process.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found
