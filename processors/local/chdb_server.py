"""The process behind `EmbeddedClickHouse`: gives up what it doesn't need, then serves until it is told to end.

It stands in the engine's folder. The engine is imported after the process has given up its rights, since they are taken
from threads that start later, and the library starts some.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

from processors.local.chdb_rights import CONFIG_FILE, USERS_FILE
from processors.local.confine import confine

DATA, TEMPORARY = Path("data"), Path("tmp")
PASSWORD_FILE = "password"
_FINISH_WITHIN = timedelta(seconds=1)
# Libraries, zones and what the engine looks up of the machine: memory, processors, limits of its group.
_OF_THE_SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/dev/urandom",
    "/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/sys/vm", "/proc/sys/kernel",
    "/sys/kernel/mm", "/sys/fs/cgroup", "/sys/devices/system",
)  # fmt: skip


def main() -> None:
    """Serve until SIGTERM or SIGINT, then end within two seconds."""
    arguments = argparse.ArgumentParser(description="ClickHouse's HTTP interface over chDB, on loopback.")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--faults", action="store_true", help="for tests: let POST /_faults make it misbehave")
    options = arguments.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    password = Path(PASSWORD_FILE).read_text("utf-8").strip()
    # What the engine leaves there when it is killed is of no use to anybody.
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    for folder in (DATA, TEMPORARY):
        folder.mkdir(exist_ok=True)
    print(give_up_rights(options.port), flush=True)
    _serve(options.port, password, ended, faults=options.faults)


def give_up_rights(port: int) -> str:
    """Keep this process to its data and its port, as far as the system can; return what was done."""
    return confine(read=_readable(), write=[DATA, TEMPORARY, Path("/dev/null")], listen=port)


def _readable() -> list[Path]:
    ours = [Path(__file__).parents[1]]
    for package in ("topics", "schemas"):
        found = importlib.util.find_spec(package)
        ours += [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    python = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    return [*map(Path, _OF_THE_SYSTEM), *python, *ours, Path(CONFIG_FILE), Path(USERS_FILE)]


def _serve(port: int, password: str, ended: threading.Event, *, faults: bool) -> None:
    from processors.local.chdb_engine import ChdbEngine
    from processors.local.chdb_front import Front
    from processors.local.faults import InsertFaults

    engine = ChdbEngine(DATA)
    front = Front(port, engine, password, InsertFaults() if faults else None)
    threading.Thread(target=front.serve_forever, name="front", kwargs={"poll_interval": 0.1}, daemon=True).start()
    ended.wait()
    front.shutdown()
    front.server_close()
    engine.close(_FINISH_WITHIN)
    sys.stdout.flush()
    # Threads of clients that keep their connection open would crash in an engine that is taken apart under them.
    os._exit(0)


if __name__ == "__main__":
    main()
