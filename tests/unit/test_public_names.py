"""The names that people write steps and roles with: each is here on purpose, and none leaves or changes unseen."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from importlib import import_module
from types import ModuleType

import msgspec
import pytest

from processors import errors, outside, step, step_model, testing
from processors.process import role

#: What each documented module offers. A name that goes, or comes, is news for CHANGELOG.md and for docs/custom-steps.md.
NAMES = {
    "processors.step": {
        "Address",
        "EffectKind",
        "Host",
        "Json",
        "Log",
        "NOTHING_TO_UNDO",
        "NothingToUndo",
        "Step",
        "StepCall",
        "StepOutput",
        "StepParams",
    },
    "processors.step_model": {"Network", "StepModel"},
    "processors.process.role": {"Process", "Role", "STEP", "Work"},
    "processors.errors": {
        "BadRecord",
        "ConfigurationError",
        "DeliveryFailed",
        "PipelineError",
        "ProtocolViolation",
        "RecordGone",
        "RetryLater",
        "ScrapesagaError",
        "StepError",
        "StepFailed",
        "TopicMismatch",
    },
}


#: What the test kit offers.
KIT = {
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
}


def names(module: ModuleType) -> set[str]:
    """Return the public names that a module's own text defines: classes, functions and constants, no imports."""
    found: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Assign():
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return {name for name in found if not name.startswith("_")}


def members(kind: type) -> set[str]:
    """Return the public names in a class's own body."""
    return {name for name in (*vars(kind), *inspect.get_annotations(kind)) if not name.startswith("_")}


@pytest.mark.parametrize("module", sorted(NAMES))
def test_a_documented_module_offers_these_names_and_no_others(module: str) -> None:
    """Whoever adds or removes one changes this list too, and says so to users."""
    assert names(import_module(module)) == NAMES[module]


def test_the_test_kit_offers_these_names_and_no_others() -> None:
    """`from processors.testing import ...` finds them, and `__all__` names no other."""
    assert set(testing.__all__) == KIT
    assert {name for name in KIT if not hasattr(testing, name)} == set()


def test_the_old_name_of_the_step_model_still_works() -> None:
    """Models that import from processors.outside go on working."""
    assert (outside.Outside, outside.Network) == (step_model.StepModel, step_model.Network)


def test_what_a_step_may_define() -> None:
    """The attributes of `Step` that the engine reads."""
    assert members(step.Step) == {
        "Params", "check", "check_record", "close", "compensate", "confirm", "effect", "open", "run", "simulated",
        "timeout",
    }  # fmt: skip


def test_what_a_step_is_told_and_what_it_returns() -> None:
    """The fields of a call, of an output and of an address, in the order in which they may be given."""
    assert [field.name for field in msgspec.structs.fields(step.StepCall)] == [
        "job_id", "run", "pipeline", "step", "seq", "attempt", "key", "url", "timeout", "payload", "record", "outputs",
        "output", "record_schema", "label", "partition", "confirms", "address",
    ]  # fmt: skip
    assert [field.name for field in fields(step.StepOutput)] == ["data", "record", "note"]
    assert [field.name for field in fields(step.Address)] == ["topic", "partition", "offset", "sha256", "size_bytes"]


def test_what_the_engine_offers_to_a_step() -> None:
    """The methods of the host, of a log, and of a model in simulation."""
    assert members(step.Host) == {"count", "log", "publish", "read", "secret", "setting"}
    assert members(step.Log) == {"append", "catch_up"}
    assert members(step_model.Network) == {"call"}
    assert members(step_model.StepModel) == {"close", "paid", "standing", "step"}


def test_what_a_role_declares_and_what_a_process_offers_to_it() -> None:
    """The arguments of `Role`, all by name, and what `start` may use of the process."""
    assert [field.name for field in fields(role.Role)] == [
        "name", "does", "reads", "writes", "start", "settings", "scales_by", "kind", "stateful", "alone",
        "calls_outside", "ready_when", "restarted_when",
    ]  # fmt: skip
    assert members(role.Process) == {
        "add_agent", "add_before_scrape", "add_probes", "add_resource", "add_service", "app", "plans", "producer",
        "publish_plans", "run", "spans",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (errors.StepFailed, ["reason", "effect_unknown"]),
        (errors.RetryLater, ["reason", "after", "effect_unknown"]),
        (step.Step, ["name", "params", "host"]),
        (step_model.StepModel, ["network"]),
    ],
)
def test_how_they_are_made(kind: type, parameters: list[str]) -> None:
    """The names of the arguments hold, as steps and their tests give them by name."""
    assert list(inspect.signature(kind).parameters) == parameters
