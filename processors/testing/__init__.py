"""A test kit for steps and pipelines: no Kafka, no network, in any test runner. See docs/testing-steps.md."""

from processors.saga.state import Action, Phase
from processors.testing.calls import open_step, step_call
from processors.testing.faults import Fault, FaultKind, Faults, every_fault
from processors.testing.golden import GoldenPage, golden_pages
from processors.testing.memory import MemoryBroker, MemoryHost, MemoryLog, MemoryRecord
from processors.testing.pipelines import run_pipeline
from processors.testing.plans import plan_of
from processors.testing.site import Answer, MemorySite
from processors.testing.step_run import Outcome, StepResult, run_step
from processors.testing.story import PipelineStory, RaisedError, Standing, StoryLine
from processors.testing.warehouse import MemoryWarehouse

__all__ = [
    "Action",
    "Answer",
    "Fault",
    "FaultKind",
    "Faults",
    "GoldenPage",
    "MemoryBroker",
    "MemoryHost",
    "MemoryLog",
    "MemoryRecord",
    "MemorySite",
    "MemoryWarehouse",
    "Outcome",
    "Phase",
    "PipelineStory",
    "RaisedError",
    "Standing",
    "StepResult",
    "StoryLine",
    "every_fault",
    "golden_pages",
    "open_step",
    "plan_of",
    "run_pipeline",
    "run_step",
    "step_call",
]
