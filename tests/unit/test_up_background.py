"""`down`, `logs` and "no engine here": what commands say of an engine in a folder, without starting one."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from pathlib import Path

import pytest

from processors.cli.context import ADDRESSES, DATA_DIR, SERVERS, check_engine
from processors.local.background import down, ends, followed, log_files
from processors.local.claim import Claim
from processors.local.errors import LocalError
from processors.local.ports import free_port
from processors.settings.settings import Settings


def test_down_says_where_it_looked(tmp_path: Path) -> None:
    """A folder in which no engine runs is named, with the option that names another."""
    with pytest.raises(LocalError, match=f"No engine runs in {tmp_path}.*--data-dir"):
        down(tmp_path)


def test_logs_are_found_by_name(tmp_path: Path) -> None:
    """Roles and servers; a wrong name is told which there are, an empty folder that nothing has run there."""
    with pytest.raises(LocalError, match="No engine has run"):
        log_files(tmp_path, ())
    for name in ("logs/fetch.log", "logs/up.log", "kafka/broker.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(f"{name} {number}\n" for number in range(30)))
    found = log_files(tmp_path, ())
    assert list(found) == ["fetch", "up", "kafka"]
    assert list(log_files(tmp_path, ["kafka"])) == ["kafka"]
    with pytest.raises(LocalError, match="no log of 'ftech'; there are: fetch, up, kafka"):
        log_files(tmp_path, ["ftech"])
    assert list(ends(found, 1)) == [
        ("fetch", "logs/fetch.log 29"),
        ("up", "logs/up.log 29"),
        ("kafka", "kafka/broker.log 29"),
    ]
    assert list(ends(found, 0)) == []


def test_a_followed_log_gives_each_whole_line_once(tmp_path: Path) -> None:
    """From where it was; a line that is written in parts is one line; a log that begins anew is read from its beginning."""
    path = tmp_path / "a.log"
    path.write_text("old\n")
    lines = followed({"a": path})

    def write(text: str, how: str = "a") -> None:
        with path.open(how) as log:
            log.write(text)

    # Begins where the log ends at the first look.
    def writing() -> None:
        write("one\ntw")

    threading.Timer(0.5, writing).start()
    assert next(lines) == ("a", "one")
    write("o\nthree\n")
    assert list(itertools.islice(lines, 2)) == [("a", "two"), ("a", "three")]
    write("new\n", "w")
    assert next(lines) == ("a", "new")


def folder_of(tmp_path: Path) -> Path:
    """A folder that `up` has written, without the engine."""
    folder = tmp_path / ".scrapesaga"
    (folder / "kafka").mkdir(parents=True)
    (folder / "kafka" / "password").write_text("secret")
    (folder / ADDRESSES).write_text(
        f"{SERVERS}=127.0.0.1:1\nSCRAPESAGA_SASL_PASSWORD_FILE={folder / 'kafka' / 'password'}\n"
    )
    return folder


def test_without_an_engine_commands_say_so(tmp_path: Path) -> None:
    """Nothing wrote addresses here and nothing listens at the default: no waiting for Kafka's time-outs."""
    environ = {DATA_DIR: str(tmp_path / "none")}
    nobody = Settings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(
        LocalError, match=rf"No engine here: there is no {tmp_path}/none/up\.env.*{DATA_DIR}.*{SERVERS}"
    ):
        check_engine(environ, nobody)
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        check_engine(environ, Settings(bootstrap_servers=f"127.0.0.1:{somebody.getsockname()[1]}"))
    # Whoever names a Kafka means that one.
    check_engine({**environ, SERVERS: nobody.bootstrap_servers}, nobody)


def test_an_engine_that_was_stopped_is_told_from_one_that_runs(tmp_path: Path) -> None:
    """Its addresses are still there: the claim on the folder tells whether anybody is."""
    folder = folder_of(tmp_path)
    environ = {DATA_DIR: str(folder)}
    settings = Settings(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(LocalError, match=f"The engine in {folder} isn't running: start it with `scrapesaga up`"):
        check_engine(environ, settings)
    claim = Claim(folder)
    check_engine(environ, settings)
    claim.close()
    # A Kafka of somebody's own doesn't stop with the engine.
    (folder / ADDRESSES).write_text(f"{SERVERS}=kafka:9092\n")
    check_engine(environ, settings)


def test_a_process_that_is_not_ours_is_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's engine: said, not waited for."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    claim = Claim(tmp_path)
    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(LocalError, match=rf"process {os.getpid()}\) belongs to another user"):
        down(tmp_path)
    claim.close()
