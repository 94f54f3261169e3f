"""The command that simulates pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.simulation.command import main
from tests.sim.planted import BUGS

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "pipelines" / "shop-prices.yaml")


def test_a_pipeline_keeps_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    """Histories of a real pipeline end well, and the report says how many there were."""
    assert main([EXAMPLE, "--seeds", "40"]) == 0
    out = capsys.readouterr().out
    assert "pipeline shop-prices: 40 histories" in out
    assert "no promise was broken" in out


def test_a_broken_promise_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug in the rules fails the command, with a story to follow and the seed to take it up again."""
    bug = next(one for one in BUGS if one.name == "compensations in the order of the steps")
    with bug.plant():
        assert main([EXAMPLE, "--seeds", "200"]) == 1
    out = capsys.readouterr().out
    assert "!! Compensate in reverse" in out
    assert "--seed " in out


def test_one_seed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A seed's history is told from its submission to its end."""
    assert main([EXAMPLE, "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("seed 7\n   1 submit\n")
    assert "the saga is " in out


def test_a_pipeline_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is simulated, and the message says which file is wrong."""
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml doesn't exist" in capsys.readouterr().out


def test_no_histories_prove_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Zero seeds are refused."""
    with pytest.raises(SystemExit):
        main([EXAMPLE, "--seeds", "0"])
    assert "at least 1" in capsys.readouterr().err
