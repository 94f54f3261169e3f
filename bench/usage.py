"""What processes use, as Linux accounts for it: CPU time and resident memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_ms(pid: int) -> float:
    """CPU time of a process since its start, all threads, user and system; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_MS


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in ms and memory in MB by process name."""

    cpu: Mapping[str, float]
    rss: Mapping[str, float]

    @classmethod
    def of(cls, pids: Mapping[str, int]) -> Self:
        """Measure now."""
        return cls(
            {name: cpu_ms(pid) for name, pid in pids.items()},
            {name: rss_mb(pid) for name, pid in pids.items()},
        )

    def since(self, before: Usage) -> dict[str, float]:
        """CPU that each process used since `before`; one that was started again since then counts from its start."""
        return {
            name: used - before.cpu.get(name, 0.0) if used >= before.cpu.get(name, 0.0) else used
            for name, used in self.cpu.items()
        }
