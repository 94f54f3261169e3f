"""DBOS as a peer of the benchmark: five no-op steps with compensations, in one process, on Postgres or SQLite.

    python -m venv dbos && dbos/bin/pip install dbos "psycopg[binary]"
    python -m bench --peer "DBOS=dbos/bin/python bench/peers/dbos_peer.py"

Give it a Postgres by DBOS_DATABASE_URL=postgresql://...; without one it starts its own if `initdb` and `postgres` are
there, and uses SQLite otherwise. The contract is in bench/peer.py.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbos import DBOS  # type: ignore[import-not-found,unused-ignore]  # installed by whoever runs this

STEPS = ("fetch", "parse", "enrich", "load", "notify")
UNDOABLE = ("fetch", "enrich")
_PORT = 20_432


class ForGood(Exception):
    """The step that was made to fail."""


@DBOS.step()  # type: ignore[untyped-decorator,unused-ignore]
async def do(step: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Do nothing with some 400 bytes in and out."""
    if payload.get("fails_at") == step:
        raise ForGood(step)
    return {"text": "x" * len(payload["text"])}


@DBOS.step()  # type: ignore[untyped-decorator,unused-ignore]
async def undo(step: str, output: dict[str, Any]) -> None:
    """Undo nothing."""


@DBOS.workflow()  # type: ignore[untyped-decorator,unused-ignore]
async def saga(payload: dict[str, Any]) -> str:
    """Five steps; undo those that were done if one fails."""
    done: list[tuple[str, dict[str, Any]]] = []
    for step in STEPS:
        try:
            done.append((step, await do(step, payload)))
        except ForGood:
            for earlier, output in reversed(done):
                if earlier in UNDOABLE:
                    await undo(earlier, output)
            return "compensated"
    return "completed"


async def carry(asked: dict[str, Any]) -> dict[str, Any]:
    """Run one scenario."""
    text = "x" * (asked["payload_bytes"] - 40)
    room = asyncio.Semaphore(asked["in_flight"])
    times: list[float] = []
    ends = {"completed": 0, "compensated": 0}

    async def one(number: int) -> None:
        fails = asked["fails_every"] and number % asked["fails_every"] == 0
        payload = {"number": number, "text": text, **({"fails_at": "load"} if fails else {})}
        async with room:
            began = time.perf_counter()
            handle = await DBOS.start_workflow_async(saga, payload)
            ends[await handle.get_result()] += 1
            times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(asked["sagas"])))
    if asked["scenario"] == "S2":
        return {"latencies_ms": times}
    return {"seconds": time.perf_counter() - began, **ends}


def database() -> tuple[str, str]:
    """The database to use and what it is."""
    given = os.environ.get("DBOS_DATABASE_URL")
    if given:
        return given, "the given database"
    folder = Path(tempfile.mkdtemp(prefix="dbos-peer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if not initdb or not postgres:
        return f"sqlite:///{folder / 'dbos.sqlite'}", "SQLite"
    # Postgres refuses to run as root.
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if other:
        shutil.chown(folder, "postgres")
    data = str(folder / "data")
    quiet = {"stdout": subprocess.DEVNULL, "check": True, "cwd": folder}
    subprocess.run([*other, initdb, "-D", data, "-A", "trust", "-U", "dbos"], **quiet)  # type: ignore[call-overload]
    server = subprocess.Popen(
        [*other, postgres, "-D", data, "-p", str(_PORT), "-k", str(folder), "-c", "listen_addresses=127.0.0.1"],
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )

    def stop() -> None:
        server.terminate()
        server.wait(20)

    atexit.register(stop)
    time.sleep(3)
    return f"postgresql+psycopg://dbos@127.0.0.1:{_PORT}/postgres", "Postgres"


async def main() -> None:
    """Answer until standard input closes."""
    url, what = database()
    DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False})
    DBOS.launch()
    print(json.dumps({"ready": f"dbos {version('dbos')}, {what}"}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        supported = asked["scenario"] in ("S1", "S2", "S3")
        answer = await carry(asked) if supported else {"unsupported": "this harness has S1 to S3"}
        print(json.dumps(answer), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main())
