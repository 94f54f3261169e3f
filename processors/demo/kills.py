"""Kills on purpose: SIGKILL of a processor or a server of a running engine, while its jobs are under way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta

from processors.local.engine import LocalEngine
from processors.local.errors import LocalError
from processors.local.server import LocalServer

BROKER, CLICKHOUSE = "broker", "clickhouse"
_RUNNING_WITHIN = timedelta(seconds=30)
# As long as the first start may take on a machine that has ten times as much to do as it has cores.
_BACK_WITHIN = timedelta(seconds=180)
_POLL_S = 0.05


def check_targets(targets: Sequence[str], roles: Sequence[str]) -> None:
    """Raise LocalError unless each target is a role, the broker or ClickHouse."""
    known = (*roles, BROKER, CLICKHOUSE)
    for target in targets:
        if target not in known:
            raise LocalError(f"Nothing to kill is named {target!r}: choose from {', '.join(known)}.")


def kill(engine: LocalEngine, target: str) -> int:
    """End a process by SIGKILL and return its pid; servers are up again on return, processors soon after it.

    The engine itself brings them back. Raises LocalError for a server that isn't this engine's own or doesn't come back,
    or a processor that doesn't run within half a minute.
    """
    match target:
        case "broker" | "clickhouse":
            server = engine.kafka if target == BROKER else engine.clickhouse
            pid = None if server is None else server.pid
            if server is None or pid is None:
                raise LocalError(f"The {target} isn't run by this engine, so it can't be killed here.")
            os.kill(pid, signal.SIGKILL)
            _wait_until_back(server, pid)
        case role:
            pid = running(engine, role)
            os.kill(pid, signal.SIGKILL)
    return pid


def _wait_until_back(server: LocalServer, killed: int) -> None:
    give_up = time.monotonic() + _BACK_WITHIN.total_seconds()
    while server.pid == killed or not server.is_up:
        if time.monotonic() > give_up:
            raise LocalError(f"{server.what} isn't back {_BACK_WITHIN} after it was killed; see {server.log_path}")
        time.sleep(_POLL_S)


def running(engine: LocalEngine, name: str) -> int:
    """Return a processor's pid, waiting while the supervisor is about to start it again. Raises LocalError."""
    give_up = time.monotonic() + _RUNNING_WITHIN.total_seconds()
    while (pid := engine.supervisor.pids().get(name)) is None:
        if time.monotonic() > give_up:
            raise LocalError(f"{name} doesn't run; see its log in {engine.data_dir / 'logs'}")
        time.sleep(_POLL_S)
    return pid
