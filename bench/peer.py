"""Other engines in the same run: a program of yours that speaks one line of JSON for one line of JSON.

    python -m bench --peer "DBOS=/path/to/venv/bin/python bench/peers/dbos_peer.py"

The program starts whatever it needs as child processes, then says on standard output that it is ready:

    {"ready": "dbos 3.4.0, Postgres 15"}

It is asked on standard input, scenario by scenario, and answers when the last saga is done and durable:

    {"scenario": "S1", "sagas": 12000, "in_flight": 4000, "fails_every": 0, "payload_bytes": 400}
    {"seconds": 24.1, "completed": 12000, "compensated": 0}

    {"scenario": "S2", "sagas": 200, "in_flight": 1, "fails_every": 0, "payload_bytes": 400}
    {"latencies_ms": [18.1, 17.9, ...]}

or `{"unsupported": "why"}`. With `fails_every`: N, saga numbers 0, N, 2N... fail for good in the fourth of five steps, and
the first and third step are undone. Standard error is shown. When its standard input closes it ends, with its children.
CPU and memory are measured here, over the program and all of its descendants.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.rows import ResultRow
from bench.scenarios import FAILS_EVERY
from bench.steps import PAYLOAD_BYTES
from bench.usage import Usage

_END_WITHIN_S = 60.0


class Peer:
    """A running program; raises RuntimeError when it breaks the contract."""

    def __init__(self, name: str, command: str) -> None:
        self._name = name
        self._process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._about = self._read().get("ready")
        if not self._about:
            raise RuntimeError(f"{name} did not say that it is ready; see bench/peer.py for the contract")

    def ask(self, scenario: str, sagas: int, in_flight: int) -> ResultRow | None:
        """Run one scenario; None if the peer doesn't support it."""
        asked = {
            "scenario": scenario,
            "sagas": sagas,
            "in_flight": in_flight,
            "fails_every": FAILS_EVERY if scenario == "S3" else 0,
            "payload_bytes": PAYLOAD_BYTES,
        }
        before = Usage.of(self._family())
        if self._process.stdin is None:
            raise RuntimeError(f"{self._name} can't be asked")
        self._process.stdin.write(json.dumps(asked) + "\n")
        answer = self._read()
        usage = Usage.of(self._family())
        if "unsupported" in answer:
            return None
        cpu = _by_program(usage.since(before), sagas)
        settings = {"about": self._about, "sagas": sagas, "in_flight": in_flight}
        memory = sum(usage.rss.values())
        row = ResultRow(
            self._name, scenario, cpu_ms_per_saga=sum(cpu.values()), cpu=cpu, settings=settings, rss_mb=memory
        )
        if "latencies_ms" in answer:
            cuts = quantiles(answer["latencies_ms"], n=100)
            return replace(row, p50_ms=cuts[49], p99_ms=cuts[98])
        failing = len(range(0, sagas, FAILS_EVERY)) if scenario == "S3" else 0
        if (answer["completed"], answer["compensated"]) != (sagas - failing, failing):
            raise RuntimeError(f"{self._name} {scenario}: {answer}; {failing} of {sagas} had to be compensated")
        return replace(row, sagas_per_s=sagas / answer["seconds"])

    def close(self) -> None:
        """Let it end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{self._name} ended; see what it wrote to standard error")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise RuntimeError(f"{self._name} answered {answer!r}: expected a JSON object")
        return answer

    def _family(self) -> dict[str, int]:
        """The process and its descendants, by program and pid."""
        children: dict[int, list[int]] = {}
        names: dict[int, str] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, rest = path.read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            pid = int(path.parent.name)
            names[pid] = head.partition("(")[2]
            children.setdefault(int(rest.split()[1]), []).append(pid)
        family, open_ = {}, [self._process.pid]
        while open_:
            pid = open_.pop()
            family[f"{names.get(pid, '?')} {pid}"] = pid
            open_ += children.get(pid, ())
        return family


def _by_program(used: Mapping[str, float], sagas: int) -> dict[str, float]:
    totals: dict[str, float] = {}
    for name, cpu in used.items():
        program = name.rpartition(" ")[0]
        totals[program] = totals.get(program, 0.0) + cpu / sagas
    return totals


def rows(
    given: Sequence[str], scenarios: Sequence[str], runs: int, sizes: Mapping[str, tuple[int, int]]
) -> Iterator[ResultRow]:
    """Every scenario of every peer; `sizes` holds sagas and how many of them at once, by scenario."""
    for one in given:
        name, _, command = one.partition("=")
        peer = Peer(name, command)
        try:
            for _ in range(runs):
                for scenario in scenarios:
                    if scenario in sizes and (row := peer.ask(scenario, *sizes[scenario])) is not None:
                        yield row
        finally:
            peer.close()
