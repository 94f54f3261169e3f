"""One meaning a name: no class is defined twice, and the words that docs/glossary.md replaced stay away."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("processors", "schemas", "topics", "bench")

#: Names that may be defined twice, with the reason.
TWICE: dict[str, str] = {}

#: What the field calls otherwise, by its new name.
REPLACED = {
    **dict.fromkeys(("Outbox", "outbox", "_outbox"), "Producer"),
    **dict.fromkeys(("Lane", "lane", "_lanes"), "PartitionQueue, JobQueue"),
    **dict.fromkeys(("Pace", "_pace"), "TokenBucket"),
    **dict.fromkeys(("Deadlines", "deadlines", "_deadlines"), "TimerWheel, timers"),
    **dict.fromkeys(("Census", "census", "_census"), "SagaCounts"),
    **dict.fromkeys(("ring", "rang", "ring_early"), "fire, fired"),
    **dict.fromkeys(("Answers",), "ReplyBatcher"),
    **dict.fromkeys(("Observation",), "HealthServer"),
    **dict.fromkeys(("shown_url", "blotted", "hide_in", "hide_in_text", "hide_from_logs"), "sanitised, redacted"),
    **dict.fromkeys(("Inbox", "Progress"), "RecordQueue, OffsetTracker"),
    **dict.fromkeys(("ForeignWatch", "look_for_foreign_writes"), "FencingWatch, fence_other_writers"),
    **dict.fromkeys(("Told",), "ThrottledLog"),
    **dict.fromkeys(("renewed",), "reencoded"),
    **dict.fromkeys(("ArrivalsAudit", "_arrivals"), "IntakeAudit"),
    **dict.fromkeys(("Frontier", "frontier", "_frontier"), "Watermark"),
    **dict.fromkeys(("Promise", "Broken"), "Invariant, Violation"),
    **dict.fromkeys(("Undone", "UndoFailed"), "Compensated, CompensationFailed"),
    **dict.fromkeys(("fatal",), "retryable"),
    **dict.fromkeys(("unsure",), "outcome_unknown"),
    **dict.fromkeys(("Town", "town", "_town", "Roads", "roads", "People", "people"), "environment, network, operators"),
    **dict.fromkeys(("Trouble", "trouble", "mishap", "mishaps", "Mishap"), "fault"),
    **dict.fromkeys(("surprises",), "unexpected_errors"),
}
#: Names that a library gives, by file.
GIVEN = {("processors/demo/demo.py", "Progress")}


def _sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def test_no_class_name_has_two_meanings() -> None:
    """A public class of that name is in one module only."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in _sources(*SHIPPED):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in TWICE} == {}


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name
            case _:
                pass


@pytest.mark.parametrize("folder", [*SHIPPED, "tests", "examples", "deploy"])
def test_replaced_words_do_not_come_back(folder: str) -> None:
    """An identifier says what the glossary says."""
    found = {
        f"{path}: {name}, say {REPLACED[name]}"
        for path, tree in _sources(folder)
        for name in _names(tree)
        if name in REPLACED and (path, name) not in GIVEN
    }
    assert found == set()


def test_the_glossary_names_what_there_is() -> None:
    """Every `processors....` of docs/glossary.md can be imported, and no term is there twice."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^\| ([^|`]+?) \|", text, re.MULTILINE)
    terms = [term for term in terms if term != "term" and not term.startswith("-")]
    assert len(terms) > 50
    assert len(terms) == len(set(terms))
    for target in re.findall(r"`(processors\.[\w.]+)`", text):
        parts = target.split(".")
        # The longest part of it that is a module, then its attributes.
        for cut in range(len(parts), 0, -1):
            if (ROOT / "/".join(parts[:cut])).is_dir() or (ROOT / "/".join(parts[:cut])).with_suffix(".py").exists():
                break
        found: object = import_module(".".join(parts[:cut]))
        for name in parts[cut:]:
            assert hasattr(found, name) or name in getattr(found, "__struct_fields__", ()), target
            found = getattr(found, name)
