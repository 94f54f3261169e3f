"""`scrapesaga simulate`: what it says of a pipeline, how it ends, and how a seed is seen again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from processors.cli.app import app
from processors.cli.errors import Exit
from tests.sim.planted import BUGS

pytestmark = pytest.mark.timeout(120)
EXAMPLE = str(Path(__file__).parents[2] / "examples" / "pipelines" / "shop-prices.yaml")


def simulate(*arguments: str) -> Result:
    """Run the command as a user does."""
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_a_pipeline_keeps_its_promises() -> None:
    """Both levels are simulated, each step is said to be run or modelled, and the last line sums it up."""
    result = simulate(EXAMPLE, "--seeds", "40", "--whole", "2")
    assert result.exit_code == Exit.OK, result.output
    assert "pipeline shop-prices, the rules: 40 histories" in result.output
    assert "step load: modelled as a row by job" in result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("40 histories of the rules (")
    assert "2 histories of the whole engine (" in last
    assert "no promise was broken" in last


def test_a_broken_promise_fails_the_command() -> None:
    """A bug in the rules fails the command, with a story to follow and the command that takes the seed up again."""
    bug = next(one for one in BUGS if one.name == "compensations in the order of the steps")
    with bug.plant():
        result = simulate(EXAMPLE, "--seeds", "200", "--level", "rules")
    assert result.exit_code == Exit.REFUSED
    assert "!! Compensate in reverse" in result.output
    assert f"scrapesaga simulate {EXAMPLE} --level rules --seed " in result.output
    assert result.output.strip().splitlines()[-1].endswith("never happened") or "1 broken" in result.output


def test_one_seed_is_told() -> None:
    """A seed's history is told from its submission to its end, by either level."""
    rules = simulate(EXAMPLE, "--level", "rules", "--seed", "7")
    assert rules.exit_code == Exit.OK
    assert rules.output.startswith("seed 7\n   1 submit\n")
    assert "the saga is " in rules.output
    whole = simulate(EXAMPLE, "--level", "whole", "--seed", "7")
    assert whole.exit_code == Exit.OK
    assert "scrape.events[0]@0  a: Submitted" in whole.output
    assert whole.output.endswith("no promise was broken\n")


def test_a_seed_belongs_to_a_level() -> None:
    """A seed is another history at each level, so both can't be meant."""
    result = simulate(EXAMPLE, "--seed", "7")
    assert result.exit_code == Exit.USAGE
    assert "--level" in result.output


def test_a_pipeline_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Nothing is simulated, and the message says which file is wrong."""
    result = simulate(str(tmp_path / "none.yaml"))
    assert result.exit_code == Exit.UNUSABLE
    assert "none.yaml doesn't exist" in result.output


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("fetch=nowhere:Model", "can't be imported"),
        ("fetch=tests.sim.plans:shop", "is no module:attr of a processors.step_model.StepModel"),
        ("fetch=plain", "is no module:attr of a processors.step_model.StepModel"),
        ("other=tests.sim.plans:shop", "has no step other"),
    ],
)
def test_an_outside_that_is_none_is_refused(given: str, says: str) -> None:
    """A wrong model is a wrong setting, and the message says what is wrong with it."""
    result = simulate(EXAMPLE, "--model", given, "--seeds", "1")
    assert result.exit_code == Exit.UNUSABLE
    assert says in result.output


def test_no_histories_prove_nothing() -> None:
    """Zero seeds are refused."""
    assert simulate(EXAMPLE, "--seeds", "0").exit_code == Exit.USAGE


def test_a_fault_that_never_happened_can_fail_the_command() -> None:
    """In CI, histories that met not every kind of fault prove too little; the command names the kinds."""
    result = simulate(EXAMPLE, "--seeds", "2", "--whole", "1", "--every-fault")
    assert result.exit_code == Exit.REFUSED
    assert "   never: an operator skips" in result.output
    assert "kinds of fault never happened" in result.output.strip().splitlines()[-1]


def test_time_bounds_the_histories() -> None:
    """The command stops when its time is over, and says how many histories that were."""
    result = simulate(EXAMPLE, "--seeds", "1000000", "--seconds", "1")
    assert result.exit_code == Exit.OK
    assert int(result.output.strip().splitlines()[-1].split(" ")[0]) < 1_000_000


def test_what_it_found_can_be_read_by_programs() -> None:
    """One JSON object a pipeline and level."""
    result = simulate(EXAMPLE, "--seeds", "20", "--whole", "2", "--json")
    rules, whole = map(json.loads, result.output.strip().splitlines())
    assert (rules["level"], rules["histories"], rules["broken"]) == ("rules", 20, [])
    assert (whole["level"], whole["histories"]) == ("whole", 2)
    assert whole["steps"]["parse"] == "modelled as nothing outside"
    assert set(whole) == set(rules)
