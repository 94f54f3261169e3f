"""A step declares the kind of its effect, so that the simulation needs no list of steps."""

from __future__ import annotations

import pytest

from processors.pipeline.pipeline import find_step, installed_steps
from processors.saga.plan import StepPlan
from processors.simulation.rules.effects import kind_of
from processors.step import NOTHING_TO_UNDO, EffectKind, Step, StepCall, StepOutput
from tests import sagas


class Upsert(Step):
    """Stands for a step that loads into another database."""

    effect = EffectKind.ROW

    async def run(self, call: StepCall) -> StepOutput:
        """Write nothing."""
        return StepOutput()

    compensate = NOTHING_TO_UNDO


@pytest.mark.parametrize("use", ["fetch", "parse", "enrich", "load", "notify"])
def test_each_built_in_step_declares_its_effect(use: str) -> None:
    """Without a declaration a built-in step would be simulated as if it wrote a page."""
    assert installed_steps()[use].startswith("processors.steps.")
    assert find_step(use).effect is kind_of(planned(use))


def test_a_step_of_another_package_is_simulated_by_its_declaration() -> None:
    """A new database step is a row in the simulation because it says so; nothing there names it."""
    assert kind_of(planned(f"{__name__}:Upsert")) is EffectKind.ROW


def test_without_a_declaration_an_undoable_step_writes_a_page() -> None:
    """Also for a step that is not installed here; one with nothing to undo has no effect."""
    assert kind_of(planned("not-installed")) is EffectKind.PAGE
    assert kind_of(planned("not-installed-either", undoable=False)) is EffectKind.NONE


def planned(use: str, **changes: object) -> StepPlan:
    """Return a planned step that uses another step's code."""
    return sagas.step("s", use=use, **changes)
