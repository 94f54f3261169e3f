"""The benchmark runs to its end, small: it can't rot unseen, and it refuses to report what isn't complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.load import LoadResult
from bench.rows import ResultRow, earlier, medians, save
from bench.scenarios import SagaLoad, _check

ROOT = Path(__file__).parents[2]


def test_the_benchmark_reports_every_scenario_that_it_was_asked_for(tmp_path: Path) -> None:
    """Throughput, latency, the raw limit and compensation, each with CPU by process, as JSON and as a picture."""
    out = tmp_path / "results.json"
    sizes = ["--sagas", "60", "--warm-up", "20", "--one-at-a-time", "5", "--layout", "one"]
    ran = subprocess.run(
        [sys.executable, "-m", "bench", "--scenarios", "S1,S2,raw,S3", *sizes, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    rows = {(row["engine"], row["scenario"]): row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == {
        ("scrapesaga", "S1"),
        ("scrapesaga", "S2"),
        ("scrapesaga", "S3"),
        ("confluent-kafka alone", "S1"),
    }
    for row in rows.values():
        assert row["cpu_ms_per_saga"] > 0
        assert "broker" in row["cpu"]
    assert rows["scrapesaga", "S1"]["sagas_per_s"] > 0
    assert 0 < rows["scrapesaga", "S2"]["p50_ms"] <= rows["scrapesaga", "S2"]["p99_ms"]
    # A URL, its submission, six states, five commands, and five answers that go to two topics.
    assert rows["confluent-kafka alone", "S1"]["settings"]["messages"] == 1 + 1 + 6 + 5 + 10
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_commands_are_timed_over_a_log_of_sagas(tmp_path: Path) -> None:
    """Every command finds what it looks for in the log that the benchmark fills, and says how long it took."""
    out = tmp_path / "commands.json"
    ran = subprocess.run(
        [sys.executable, "-m", "bench.commands", "--sagas", "700", "--runs", "1", "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    took = {one["command"]: one for one in json.loads(out.read_text())}
    assert len(took) == 12
    assert {name for name, one in took.items() if one["code"]} == {"status, unknown"}
    assert took["list --limit 50"]["lines"] == 52
    assert all(one["cpu_s"] > 0 and one["peak_mb"] > 0 for one in took.values())


def test_a_run_that_is_not_complete_is_no_result() -> None:
    """A saga that ended otherwise than it was made to is an error, not a slower figure."""
    load = SagaLoad(5, fails_every=5)
    phases = {f"j{number}": "COMPLETED" for number in range(4)}
    _check(LoadResult(phases={**phases, "j4": "COMPENSATED"}), load)
    with pytest.raises(RuntimeError, match="of 5 sagas 1 had to be compensated; 5 were completed"):
        _check(LoadResult(phases={**phases, "j4": "COMPLETED"}), load)


def test_several_runs_are_shown_by_their_median() -> None:
    """One slow run on a busy machine doesn't make the figure."""
    rows = [ResultRow("e", "S1", sagas_per_s=rate, cpu={"broker": rate / 10}) for rate in (100.0, 900.0, 110.0)]
    (middle,) = medians(rows)
    assert (middle.sagas_per_s, middle.cpu, middle.settings["runs"]) == (110.0, {"broker": 11.0}, 3)


def test_a_run_of_some_scenarios_keeps_the_rows_of_the_others(tmp_path: Path) -> None:
    """An hour's S5 is not lost to a minute's S1; what was measured again is replaced; a file of somebody else is none."""
    path = tmp_path / "results.json"
    old = [
        ResultRow("e", "S1", sagas_per_s=1.0),
        ResultRow("e", "S5 10,000 memory"),
        ResultRow("peer", "S1", python="another"),
    ]
    save(path, old)
    assert earlier(path, [ResultRow("e", "S1", sagas_per_s=2.0)]) == old[1:]
    path.write_text('{"rows": [{"colour": "blue"}]}')
    assert earlier(path, []) == []
