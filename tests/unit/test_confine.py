"""A confined process keeps to its folder and its port, whatever it tries. Needs a kernel with Landlock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from processors.local.confine import landlock_version
from processors.local.ports import free_port

pytestmark = pytest.mark.skipif(landlock_version() < 4, reason="this kernel has no Landlock that knows TCP")

CONFINED = """
import os, socket, subprocess, sys
from pathlib import Path
from processors.local.confine import confine
folder, port = Path(sys.argv[1]), int(sys.argv[2])
python = [Path(sys.prefix), Path(sys.base_prefix), Path("/usr"), Path("/lib"), Path("/lib64")]
print(confine(read=[*python, folder / "read"], write=[folder / "write"], listen=port))
for name, attempt in {
    "read its own": lambda: (folder / "read" / "a").read_text(),
    "write its own": lambda: (folder / "write" / "b").write_text("x"),
    "listen": lambda: socket.create_server(("127.0.0.1", port)),
    "read": lambda: (folder / "secret").read_text(),
    "list": lambda: os.listdir(folder),
    "environment of another": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "write where it reads": lambda: (folder / "read" / "b").write_text("x"),
    "move out": lambda: (folder / "write" / "b").rename(folder / "b"),
    "connect": lambda: socket.create_connection(("127.0.0.1", port)),
    "listen elsewhere": lambda: socket.create_server(("127.0.0.1", port + 1)),
    "run": lambda: subprocess.run(["/bin/true"]),
}.items():
    try:
        attempt()
        print(name, "ok")
    except PermissionError:
        print(name, "denied")
"""


def test_a_confined_process_keeps_to_what_it_was_given(tmp_path: Path) -> None:
    """It reads and writes its own, and listens on its port; other files, connections and programs are denied."""
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
    (tmp_path / "read" / "a").write_text("x")
    (tmp_path / "secret").write_text("x")
    command = [sys.executable, "-c", CONFINED, str(tmp_path), str(free_port())]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert said[0].startswith("confined by Landlock")
    assert said[1:4] == ["read its own ok", "write its own ok", "listen ok"]
    assert [line for line in said[4:] if not line.endswith(" denied")] == []
    assert len(said) == 12
