"""What may change between two versions of a schema, so that no process meets bytes that it cannot read.

Messages are BACKWARD compatible: the newer version reads what the older one wrote. A saga's state is FULL: the older one
reads what the newer wrote too, as a release may have to be taken back while states of the newer one lie in the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib import resources
from typing import Any

from avro.compatibility import ReaderWriterCompatibilityChecker
from avro.schema import Schema, parse


class CompatibilityRule(StrEnum):
    """What a newer version of a schema owes the older ones."""

    BACKWARD = "BACKWARD"
    FULL = "FULL"


#: By name of the schema; all others are BACKWARD.
RULES: Mapping[str, CompatibilityRule] = {"saga_state": CompatibilityRule.FULL}

#: How many fields stay first, as they are: restore reads them from the first bytes, whichever version wrote them.
FIRST_FIELDS: Mapping[str, int] = {"saga_state": 4}


def problems(name: str, older: Mapping[str, Any], newer: Mapping[str, Any]) -> list[str]:
    """Return why `newer` may not follow `older` under the rule of that schema, a sentence each; empty if it may."""
    found = list(_unread("the newer version can't read what the older one wrote", newer, older))
    if RULES.get(name, CompatibilityRule.BACKWARD) is CompatibilityRule.FULL:
        found += _unread("the older version can't read what the newer one wrote", older, newer)
    fixed = FIRST_FIELDS.get(name, 0)
    if _wire(older["fields"][:fixed]) != _wire(newer["fields"][:fixed]):
        found.append(f"its first {fixed} fields have to stay as they are: they are read from the first bytes alone")
    found += _reinterpreted("", older, newer)
    return found


def _unread(what: str, reader: Mapping[str, Any], writer: Mapping[str, Any]) -> Iterator[str]:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # its constructor alone is untyped
    result = checker.get_compatibility(_parsed(reader), _parsed(writer))
    for message in sorted(result.messages):
        yield f"{what}: {message} (at {', '.join(sorted(result.locations))})"


def _reinterpreted(path: str, older: object, newer: object) -> Iterator[str]:
    """Yield what has the same bytes but another meaning: Avro takes it, and its fingerprint doesn't tell them apart."""
    if isinstance(older, list) and isinstance(newer, list):
        for before, after in zip(older, newer, strict=False):
            yield from _reinterpreted(path, before, after)
    if not (isinstance(older, dict) and isinstance(newer, dict)):
        return
    for key in ("logicalType", "scale"):
        if older.get(key) != newer.get(key):
            yield f"{path or '/'}: {key} {older.get(key)} became {newer.get(key)}, which nothing in the bytes tells"
    for key in ("type", "items", "values"):
        yield from _reinterpreted(path, older.get(key), newer.get(key))
    after = {field["name"]: field for field in newer.get("fields", ())}
    for field in older.get("fields", ()):
        yield from _reinterpreted(f"{path}/{field['name']}", field, after.get(field["name"]))


def _wire(value: object) -> object:
    """Return a part of a schema without what only people read."""
    if isinstance(value, dict):
        return {key: _wire(one) for key, one in value.items() if key != "doc"}
    return [_wire(one) for one in value] if isinstance(value, list) else value


def _parsed(schema: Mapping[str, Any]) -> Schema:
    return parse(json.dumps(schema))


def released() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield version, name and schema of everything that was ever released, oldest version first."""
    folder = resources.files("schemas").joinpath("released")
    versions = [one for one in folder.iterdir() if one.is_dir()]
    for version in sorted(versions, key=lambda one: version_key(one.name)):
        for file in sorted(version.iterdir(), key=lambda one: one.name):
            if file.name.endswith(".avsc"):
                yield version.name, file.name.removesuffix(".avsc"), json.loads(file.read_text("utf-8"))


def version_key(version: str) -> tuple[int, ...]:
    """Return what sorts versions as people do: 0.10.0 after 0.9.0. Raises ValueError for what is no version."""
    return tuple(int(part) for part in version.split("."))
