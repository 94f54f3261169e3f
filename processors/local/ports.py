"""Loopback ports that stay the same from one start to the next."""

from __future__ import annotations

import json
import random
import socket
import time
from datetime import timedelta
from pathlib import Path

from processors.local.errors import LocalError

# Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections: a client that
# retries a stopped broker on a port of that range can connect to itself, and the broker then never gets it back.
_RANGE = range(20_000, 32_000)
_TRIES = 200
_FREE_WITHIN = timedelta(seconds=5)
_POLL_S = 0.05


def is_free(port: int) -> bool:
    """Tell whether a server can listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the previous server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until_free(port: int) -> None:
    """Give a server that was just killed the moment that the kernel needs to take its port back."""
    give_up = time.monotonic() + _FREE_WITHIN.total_seconds()
    while not is_free(port) and time.monotonic() < give_up:
        time.sleep(_POLL_S)


def free_port(*, avoid: frozenset[int] = frozenset()) -> int:
    """Return a loopback port that nothing listens on."""
    for port in random.sample(_RANGE, _TRIES):
        if port not in avoid and is_free(port):
            return port
    raise LocalError(
        f"No free port found between {_RANGE.start} and {_RANGE.stop}: stop some local servers, or pass a port."
    )


def remembered_port(file: Path, name: str, *, wanted: int | None = None) -> int:
    """Return `wanted`, else the port that `file` remembers for `name` if it is free, else a new one; remember it."""
    ports = _read(file)
    if wanted is not None and not is_free(wanted):
        raise LocalError(
            f"Port {wanted} on 127.0.0.1 is taken: stop what listens there, or choose another port for {name}."
        )
    known = ports.get(name)
    port = wanted
    if port is None and known is not None and is_free(known):
        port = known
    if port is None:
        port = free_port(avoid=frozenset(ports.values()))
    if port != known:
        file.write_text(json.dumps({**ports, name: port}))
    return port


def _read(file: Path) -> dict[str, int]:
    try:
        ports = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        # Half-written by a crash: the ports are a convenience, choose them anew.
        return {}
    return {name: port for name, port in ports.items() if isinstance(port, int)} if isinstance(ports, dict) else {}
