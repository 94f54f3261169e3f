"""How long an operator waits: the commands of the command line over a log of 200,000 sagas.

    python -m bench.commands [--sagas 200000] [--only status,list] [--out FILE]

Fills an embedded Kafka (bench/history.py), then runs each command in a process of its own: seconds, CPU seconds of that
process, and its peak memory. `--keep FOLDER` keeps the broker's data there and fills it once only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import history
from processors.local.kafka import EmbeddedKafka
from topics.catalogue import Catalogue

_CLI = "import sys; from processors.cli import main; sys.exit(main())"
_FILLED = "filled.json"
PREFIX = "scrape"


@dataclass(frozen=True, slots=True)
class Took:
    """What one command needed; the least of several runs: others on the machine only add."""

    command: str
    seconds: float
    cpu_s: float
    peak_mb: float
    lines: int
    code: int


def commands(sagas: int) -> dict[str, Sequence[str]]:
    """Return what is timed, by a short name. The jobs are one that began last, one in the middle, one that is parked."""
    recent, middle = history.job_id(sagas - history.SAGAS_PER_S), history.job_id(sagas // 2)
    parked = history.job_id(sagas // 2 // history.PARKS_EVERY * history.PARKS_EVERY + 3)
    label = f"batch-{sagas // 2 // 2_000}"
    return {
        "--help": ["--help"],
        "status, recent": ["status", recent],
        "status, older": ["status", middle],
        "status, unknown": ["status", "no-such-job"],
        "list --limit 50": ["list", "--limit", "50"],
        "list --phase parked": ["list", "--phase", "parked"],
        "list --label, old": ["list", "--label", label],
        "audit job, recent": ["audit", recent],
        "audit job, older": ["audit", middle],
        "resume --no-wait": ["resume", parked, "--no-wait"],
        "spend show": ["spend", "show"],
        "audit conservation": ["audit", "conservation", "--label", label],
    }


def run(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Took:
    """Run one command; its output goes to a file that is counted and thrown away."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", _CLI, *arguments],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2)],
        )
        _, status, used = os.wait4(pid, 0)
        seconds = time.monotonic() - began
        out.seek(0)
        lines = out.read().count(b"\n")
    code = os.waitstatus_to_exitcode(status)
    return Took(name, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, lines, code)


def measure(environment: Mapping[str, str], sagas: int, only: Sequence[str], runs: int) -> list[Took]:
    """Time the commands whose names begin with one of `only`; all by default."""
    found = []
    print(f"{'command':22}{'seconds':>9}{'CPU s':>8}{'MB':>7}{'lines':>7}  exit code")
    for name, arguments in commands(sagas).items():
        if only and not name.startswith(tuple(only)):
            continue
        took = [run(name, arguments, environment) for _ in range(runs)]
        one = Took(
            name,
            min(one.seconds for one in took),
            min(one.cpu_s for one in took),
            max(one.peak_mb for one in took),
            took[0].lines,
            took[0].code,
        )
        spread = statistics.median(one.seconds for one in took)
        print(
            f"{name:22}{one.seconds:9.2f}{one.cpu_s:8.2f}{one.peak_mb:7.0f}{one.lines:7}  {one.code}"
            f"   (median {spread:.2f} s)",
            flush=True,
        )
        found.append(one)
    return found


def main() -> None:
    """Fill, time, print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="scrapesaga-commands-") as made:
        folder = options.keep or Path(made)
        with EmbeddedKafka(folder / "kafka", fast_start=False, heap_mb=1024, login=False) as kafka:
            _fill(kafka.bootstrap_servers, folder / _FILLED, options.sagas)
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("SCRAPESAGA_")},
                # Modules are compiled once, as an installer does: here by the first run of each command.
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
                "SCRAPESAGA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "SCRAPESAGA_DATA_DIR": str(folder),
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "COLUMNS": "200",
            }
            found = measure(environment, options.sagas, options.only, options.runs)
    if options.out:
        options.out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


def _fill(servers: str, mark: Path, sagas: int) -> None:
    if mark.exists():
        if json.loads(mark.read_text()) != sagas:
            sys.exit(f"{mark} says that another number of sagas is there: choose another folder")
        return
    began = time.monotonic()
    history.fill(servers, Catalogue(prefix=PREFIX), sagas)
    print(f"filled {sagas:,} sagas in {time.monotonic() - began:.0f} s", flush=True)
    mark.write_text(json.dumps(sagas))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=200_000, help="sagas in the log (200000)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="beginnings of names, by comma")
    parser.add_argument("--runs", type=int, default=3, help="how often each; the best counts (3)")
    parser.add_argument("--keep", type=Path, help="folder of the broker's data, filled once and kept")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
