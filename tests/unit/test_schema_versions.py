"""Schemas change without stranding what was written: released versions are kept, read, and never edited."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastavro.utils import generate_many

from schemas.codec import MESSAGES, Codec, UndecodableMessage, codec, schema_of
from schemas.compatibility import RULES, CompatibilityRule, problems, released, version_key

ROOT = Path(__file__).resolve().parents[2]
RELEASED = list(released())
each_released = pytest.mark.parametrize(
    ("name", "schema"), [(name, schema) for _, name, schema in RELEASED], ids=[f"{v}-{n}" for v, n, _ in RELEASED]
)


@each_released
def test_no_schema_breaks_with_a_released_version(name: str, schema: dict[str, Any]) -> None:
    """Today's messages read all released ones; and a released version reads today's saga states."""
    assert problems(name, schema, schema_of(name)) == []


@pytest.mark.parametrize(("version", "name", "schema"), [one for one in RELEASED if one[1] in MESSAGES])
def test_what_released_versions_wrote_is_decoded(version: str, name: str, schema: dict[str, Any]) -> None:
    """Bytes under the fingerprint of a released schema come out with the values that went in."""
    older = Codec(name, schema)
    for value in generate_many(older._parsed, 5):
        assert isinstance(value, dict)
        found = codec(name).decode(older.encode(value))
        # A field that was removed since is dropped, and a new one has its default.
        assert {key: found[key] for key in value if key in found} == {key: value[key] for key in value if key in found}


def test_released_files_are_never_edited() -> None:
    """A fingerprint in somebody's log names exactly these bytes: a released file keeps its checksum, and none is gone."""
    folder = ROOT / "schemas" / "released"
    sums = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    actual = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*/*.avsc")
    }
    assert actual == sums


def test_every_message_has_a_rule_to_keep() -> None:
    """States are FULL, as a release may be taken back; a rule that names no schema would guard nothing."""
    assert RULES == {"saga_state": CompatibilityRule.FULL}
    assert set(RULES) <= {name for _, name, _ in RELEASED}
    assert sorted(["0.10.0", "0.9.0"], key=version_key) == ["0.9.0", "0.10.0"]


def without_a_default(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "added", "type": "long"})


def narrower(schema: dict[str, Any]) -> None:
    schema["fields"][1]["type"] = "int"


def renamed(schema: dict[str, Any]) -> None:
    schema["fields"][3]["name"] = "job"


def removed_symbol(schema: dict[str, Any]) -> None:
    schema["fields"][2]["type"]["symbols"].pop()


def added_symbol(schema: dict[str, Any]) -> None:
    schema["fields"][2]["type"]["symbols"].append("PAUSED")


def removed_needed(schema: dict[str, Any]) -> None:
    del schema["fields"][3]


def moved(schema: dict[str, Any]) -> None:
    schema["fields"].insert(0, schema["fields"].pop(1))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (without_a_default, "newer version can't read"),
        (narrower, "newer version can't read"),
        (renamed, "newer version can't read"),
        (removed_symbol, "newer version can't read"),
        (added_symbol, "older version can't read"),
        (removed_needed, "older version can't read"),
        (moved, "first 4 fields"),
    ],
)
def test_a_planted_break_is_refused(harm: Callable[[dict[str, Any]], None], told: str) -> None:
    """Each kind of change that would strand states in the log is found, and named."""
    older = schema_of("saga_state")
    newer = copy.deepcopy(older)
    harm(newer)
    assert any(told in problem for problem in problems("saga_state", older, newer))


def test_a_message_may_lose_a_field_and_a_state_may_not() -> None:
    """BACKWARD lets a message drop what none reads any more; FULL doesn't let a state, unless it has a default."""
    older = schema_of("step_result")
    newer = copy.deepcopy(older)
    needed = next(i for i, field in enumerate(newer["fields"]) if "default" not in field)
    del newer["fields"][needed]
    assert problems("step_result", older, newer) == []
    assert problems("saga_state", older, newer) != []


def test_same_bytes_with_another_meaning_are_refused() -> None:
    """A decimal's other scale has the same fingerprint, and turns 12.99 into 0.1299: Avro itself doesn't mind."""
    older = schema_of("product")
    newer = copy.deepcopy(older)
    newer["fields"][2]["type"][1]["fields"][0]["type"]["scale"] = 2
    del newer["fields"][11]["type"][1]["logicalType"]
    found = problems("product", older, newer)
    assert [problem.split(",")[0] for problem in found] == [
        "/price/amount: scale 4 became 2",
        "/price_eur: logicalType decimal became None",
    ]


def test_an_older_schema_is_resolved_by_its_fingerprint() -> None:
    """A field that the writer didn't know yet has its default; a version that was never released is refused by name."""
    newer = schema_of("timed_out")
    newer["fields"].append({"name": "why", "type": "string", "default": "due"})
    older, reader = codec("timed_out"), Codec("timed_out", newer)
    data = older.encode({"job_id": "j", "seq": 7})
    with pytest.raises(UndecodableMessage, match="a schema that this version doesn't know"):
        reader.decode(data)
    reader.add_reader(older)
    assert reader.decode(data) == {"job_id": "j", "seq": 7, "due_ms": 0, "why": "due"}


def test_announced_schemas_are_read_and_can_be() -> None:
    """What the next release will write is accepted today, under the same rules."""
    for path in (ROOT / "schemas" / "announced").glob("*.avsc"):
        name, announced = path.stem, json.loads(path.read_text("utf-8"))
        assert problems(name, announced, schema_of(name)) == []
        assert Codec(name, announced).fingerprint in codec(name)._readers


def test_a_wheel_carries_all_versions() -> None:
    """An installed engine reads old data too: the released schemas are data of the package, not only in the repository."""
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folder = ROOT / "schemas"
    carried = {path for pattern in packaging["package-data"]["schemas"] for path in folder.glob(pattern)}
    assert {folder / "released" / version / f"{name}.avsc" for version, name, _ in RELEASED} <= carried
    assert set((folder / "announced").iterdir()) <= carried
