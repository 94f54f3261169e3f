"""Where the time goes while a scenario runs: py-spy on every Python process, and a table of what it saw."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_RATE = 100
_SHOWN = 40


@contextmanager
def profiled(pids: Mapping[str, int], folder: Path) -> Iterator[None]:
    """Sample the processes while the block runs; leaves <process>.txt in the folder, stacks and how often each was seen."""
    py_spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if py_spy is None:
        raise SystemExit("profiling needs py-spy: pip install py-spy")
    folder.mkdir(parents=True, exist_ok=True)
    options = ("record", "--rate", str(_RATE), "--format", "raw", "--duration", "unlimited", "--nonblocking")
    samplers = []
    for name, pid in pids.items():
        if name != "broker":
            command = [py_spy, *options, "--output", str(folder / f"{name}.txt"), "--pid", str(pid)]
            samplers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.send_signal(signal.SIGINT)
        for sampler in samplers:
            sampler.wait(30)


def table(path: Path) -> str:
    """What a process did, function by function: percent of samples in it alone, and in what it calls."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        seen = int(count)
        frames = [_short(frame) for frame in stack.split(";")]
        total += seen
        alone[frames[-1]] += seen
        for frame in set(frames):
            within[frame] += seen
    lines = [f"{path.stem}: {total} samples", "   alone  within"]
    for frame, inside in within.most_common(_SHOWN):
        lines.append(f"  {100 * alone[frame] / total:5.1f}%  {100 * inside / total:5.1f}%  {frame}")
    return "\n".join(lines)


def _short(frame: str) -> str:
    name, _, place = frame.partition(" (")
    return f"{name} ({'/'.join(place.partition(':')[0].rstrip(')').split('/')[-2:])})" if place else name
