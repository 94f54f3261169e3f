"""What a benchmark says: one row a run of a scenario, a table for people, JSON for machines, a plot."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

_SPINS = 300_000


def python() -> str:
    """Which Python runs this: how it was built counts as much as its version."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.python_build()[1]}"


def spin_ms() -> float:
    """The CPU-ms that a fixed loop takes here and now: rows are comparable as far as these are alike."""
    began, total = time.process_time(), 0
    for number in range(_SPINS):
        total += number & 7
    return round((time.process_time() - began) * 1000, 2)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One measurement. What a scenario doesn't measure is None. `cpu` is CPU-ms a saga by process, the broker's too."""

    engine: str
    scenario: str
    sagas_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms_per_saga: float | None = None
    rss_mb: float | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    cpu: Mapping[str, float] = field(default_factory=dict)
    #: What else the scenario measured.
    more: Mapping[str, float] = field(default_factory=dict)
    #: The machine's load average over the last minute when the row was made: how far it may be trusted.
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))
    python: str = field(default_factory=python)
    spin_ms: float = field(default_factory=spin_ms)


_NUMBERS = ("sagas_per_s", "p50_ms", "p99_ms", "cpu_ms_per_saga", "rss_mb")


def medians(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """One row for each engine and scenario: the median of each number over its runs."""
    groups: dict[tuple[str, str], list[ResultRow]] = {}
    for row in rows:
        groups.setdefault((row.engine, row.scenario), []).append(row)
    return [_median_of(group) for group in groups.values()]


def _median_of(group: Sequence[ResultRow]) -> ResultRow:
    numbers: dict[str, float | None] = {}
    for name in _NUMBERS:
        given = [value for row in group if (value := getattr(row, name)) is not None]
        numbers[name] = median(given) if given else None
    first = group[0]
    return ResultRow(
        engine=first.engine,
        scenario=first.scenario,
        settings={**first.settings, "runs": len(group)},
        cpu=_each_median(row.cpu for row in group),
        more=_each_median(row.more for row in group),
        load=median(row.load for row in group),
        python=first.python,
        spin_ms=median(row.spin_ms for row in group),
        **numbers,
    )


def _each_median(maps: Iterable[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in maps:
        for name, value in one.items():
            values.setdefault(name, []).append(value)
    return {name: median(given) for name, given in values.items()}


def show(console: Console, rows: Sequence[ResultRow]) -> None:
    """Print the medians, the CPU by process, and what else was measured."""
    table = Table("scenario", "engine", "runs", title="medians", title_justify="left")
    for heading in ("sagas/s", "p50 ms", "p99 ms", "CPU ms a saga", "RSS MB", "load", "spin ms"):
        table.add_column(heading, justify="right")
    middle = medians(rows)
    for row in middle:
        numbers = [_digits(getattr(row, name)) for name in _NUMBERS]
        table.add_row(
            row.scenario,
            row.engine,
            str(row.settings.get("runs", 1)),
            *numbers,
            _digits(row.load),
            _digits(row.spin_ms),
        )
    console.print(table)
    for row in middle:
        if row.cpu:
            parts = "  ".join(f"{name} {value:.3f}" for name, value in sorted(row.cpu.items(), key=lambda p: -p[1]))
            console.print(f"{row.scenario} {row.engine}: CPU ms a saga  {parts}", soft_wrap=True)
        if row.more:
            parts = "  ".join(f"{name} {value:,.4g}" for name, value in row.more.items())
            console.print(f"{row.scenario} {row.engine}: {parts}", soft_wrap=True)


def _digits(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def earlier(path: Path, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows in a file that these don't replace: those of other engines and scenarios."""
    replaced = {(row.engine, row.scenario) for row in rows}
    try:
        found = [ResultRow(**fields) for fields in json.loads(path.read_text("utf-8"))["rows"]]
    except (OSError, ValueError, TypeError, KeyError):
        # None, or one of another version: what was measured now counts.
        return []
    return [row for row in found if (row.engine, row.scenario) not in replaced]


def save(path: Path, rows: Sequence[ResultRow]) -> None:
    """Write every row, and the medians."""
    content = {"rows": [asdict(row) for row in rows], "medians": [asdict(row) for row in medians(rows)]}
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def plot(path: Path, rows: Sequence[ResultRow]) -> None:
    """Draw throughput and CPU a saga, one bar for each engine and scenario, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    middle = [row for row in medians(rows) if row.sagas_per_s is not None]
    if not middle:
        return
    labels = [f"{row.engine} {row.scenario}" for row in middle]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 0.5 * len(middle) + 1.8), sharey=True)
    bars = left.barh(labels, [row.sagas_per_s or 0.0 for row in middle], color="#3b6ea5")
    left.bar_label(bars, fmt="{:,.0f}", padding=3)
    left.set_xlabel("sagas a second")
    left.margins(x=0.25)
    left.invert_yaxis()
    processes = sorted({name for row in middle for name in row.cpu})
    start = [0.0] * len(middle)
    for name in processes:
        widths = [row.cpu.get(name, 0.0) for row in middle]
        right.barh(labels, widths, left=start, label=name)
        start = [a + b for a, b in zip(start, widths, strict=True)]
    right.set_xlabel("CPU ms a saga, by process")
    if processes:
        right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
