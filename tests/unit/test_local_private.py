"""Files and passwords of the local servers: their owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from processors.local import child
from processors.local.private import kept_password, private_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def wide_umask() -> object:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_password_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    """The same password each time, in a file of mode 0600 whatever the umask; another folder has another one."""
    password = kept_password(tmp_path / "password")
    assert len(password) >= 32 and mode(tmp_path / "password") == 0o600
    assert kept_password(tmp_path / "password") == password
    assert kept_password(tmp_path / "other") != password


@pytest.mark.parametrize("wrong", [0o644, 0o640, 0o602])
def test_a_password_that_others_could_read_or_set_is_replaced(tmp_path: Path, wrong: int) -> None:
    """What somebody else may know is no password any more."""
    (tmp_path / "password").write_text("known\n")
    (tmp_path / "password").chmod(wrong)
    assert kept_password(tmp_path / "password") != "known"
    assert mode(tmp_path / "password") == 0o600


def test_a_link_in_the_place_of_a_password_is_not_followed(tmp_path: Path) -> None:
    """Neither read nor written through: the file that it leads to stays as it is."""
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "target").chmod(0o600)
    (tmp_path / "password").symlink_to(tmp_path / "target")
    assert kept_password(tmp_path / "password") != "theirs"
    assert (tmp_path / "target").read_text() == "theirs"


def test_a_private_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failing write leaves the old file and no partial one."""
    write_private(tmp_path / "settings", "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(tmp_path / "settings", "new \ud800")
    assert (tmp_path / "settings").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    """Made by an earlier version or by hand: mode 0700 from now on."""
    (tmp_path / "data").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "data")) == 0o700
    assert mode(private_folder(tmp_path / "new" / "one")) == 0o700


def test_a_bare_child_sees_none_of_our_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `keep_env` a child's environment is what programs need to run, and what it is given."""
    monkeypatch.setenv("SHOP_API_TOKEN", "s3cret")
    log = tmp_path / "log"
    process = child.spawn(("env",), log_path=log, env={"TZ": "UTC"}, keep_env=False)
    assert process.wait(20) == 0
    names = {line.split("=", 1)[0] for line in log.read_text().splitlines()}
    assert {"PATH", "TZ"} <= names and "SHOP_API_TOKEN" not in names
    assert names <= {"PATH", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH"}
