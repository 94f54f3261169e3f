"""The names of the test kit, as users' tests import them."""

from __future__ import annotations

import subprocess
import sys

import processors.testing

NAMES = """
Action Answer Fault FaultKind Faults GoldenPage MemoryBroker MemoryHost MemoryLog MemoryRecord MemorySite MemoryWarehouse
Outcome Phase PipelineStory RaisedError Standing StepResult StoryLine every_fault golden_pages open_step plan_of
run_pipeline run_step step_call
"""


def test_the_public_names_are_these() -> None:
    """A name that goes, or a new one, is a change for users: it shows here."""
    assert sorted(processors.testing.__all__) == sorted(NAMES.split())
    assert all(getattr(processors.testing, name).__doc__ for name in processors.testing.__all__)


def test_it_needs_no_test_runner() -> None:
    """The kit runs where neither pytest nor Hypothesis is installed."""
    code = "import sys, processors.testing; print(sorted({'pytest', 'hypothesis'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
