"""The shape of a record schema: Avro types as small values, checked when a pipeline is loaded.

Only what can travel unchanged as JSON, as Avro and as a ClickHouse row is accepted; the rest is refused here,
with its path, instead of failing on the first page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, cast


class RecordSchemaError(ValueError):
    """A record schema cannot be used; the message names the file, the field and the way out."""


class ScalarKind(StrEnum):
    """Types without parameters, by the name of their Avro type or logical type."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    UUID = "uuid"
    DATE = "date"
    TIMESTAMP_MILLIS = "timestamp-millis"
    TIMESTAMP_MICROS = "timestamp-micros"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value of one of the parameterless types."""

    kind: ScalarKind


@dataclass(frozen=True, slots=True)
class Text:
    """A string; `low_cardinality` (schema attribute `lowCardinality`) asks the warehouse for a dictionary."""

    low_cardinality: bool = False


@dataclass(frozen=True, slots=True)
class Exact:
    """A decimal of `precision` digits, `scale` of them after the point."""

    precision: int
    scale: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of an enum's symbols."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Exactly `size` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Many:
    """An array."""

    items: Shape


@dataclass(frozen=True, slots=True)
class Keyed:
    """A map with string keys."""

    values: Shape


@dataclass(frozen=True, slots=True)
class Nullable:
    """The union of null and one other type."""

    of: Shape


@dataclass(frozen=True, slots=True)
class RecordField:
    """A field of a record. `default` is the schema's own JSON; it counts only if `has_default`."""

    name: str
    shape: Shape
    has_default: bool = False
    default: object = None


@dataclass(frozen=True, slots=True)
class RecordType:
    """A record: its full Avro name with its fields in the schema's order."""

    name: str
    members: tuple[RecordField, ...]


Shape: TypeAlias = Scalar | Text | Exact | Choice | Fixed | Many | Keyed | Nullable | RecordType

# ClickHouse's Decimal256 holds 76 digits; more could be encoded as Avro but never loaded.
MAX_PRECISION = 76

_PLAIN = {
    kind.value: kind
    for kind in (
        ScalarKind.BOOLEAN,
        ScalarKind.INT,
        ScalarKind.LONG,
        ScalarKind.FLOAT,
        ScalarKind.DOUBLE,
        ScalarKind.BYTES,
    )
}
_LOGICAL = {
    ("int", "date"): ScalarKind.DATE,
    ("long", "timestamp-millis"): ScalarKind.TIMESTAMP_MILLIS,
    ("long", "timestamp-micros"): ScalarKind.TIMESTAMP_MICROS,
    ("string", "uuid"): ScalarKind.UUID,
}


def record_shape(schema: object, named: Mapping[str, object]) -> RecordType:
    """The shape of a parsed top-level record schema; raises RecordSchemaError on what cannot be carried through."""
    shape = _shape(schema, named, path="", inside=())
    if not isinstance(shape, RecordType):
        raise RecordSchemaError("the top of a record schema must be of type `record`")
    return shape


def _shape(schema: object, named: Mapping[str, object], path: str, inside: tuple[str, ...]) -> Shape:
    if isinstance(schema, list):
        return _union(schema, named, path, inside)
    if isinstance(schema, str):
        if schema in named:
            return _shape(named[schema], named, path, inside)
        return _plain(schema, {}, path)
    attributes = cast("dict[str, object]", schema)
    match attributes["type"]:
        case "record":
            return _record(attributes, named, path, inside)
        case "array":
            return Many(_shape(attributes["items"], named, f"{path}[]", inside))
        case "map":
            return Keyed(_shape(attributes["values"], named, f"{path}{{}}", inside))
        case "enum":
            return Choice(tuple(cast("list[str]", attributes["symbols"])))
        case str() as name if name not in named:
            return _plain(name, attributes, path)
        case other:
            return _shape(other, named, path, inside)


def _record(
    attributes: Mapping[str, object], named: Mapping[str, object], path: str, inside: tuple[str, ...]
) -> RecordType:
    name = cast("str", attributes["name"])
    if name in inside:
        raise RecordSchemaError(f"{path}: {name} contains itself, which no table can hold; flatten it")
    members = []
    for field in cast("list[dict[str, object]]", attributes["fields"]):
        below = f"{path}.{field['name']}" if path else str(field["name"])
        shape = _shape(field["type"], named, below, (*inside, name))
        members.append(RecordField(str(field["name"]), shape, "default" in field, field.get("default")))
    if not members:
        raise RecordSchemaError(f"{path or name}: a record without fields has nothing to store; give it some")
    return RecordType(name, tuple(members))


def _union(branches: list[object], named: Mapping[str, object], path: str, inside: tuple[str, ...]) -> Shape:
    others = [branch for branch in branches if branch != "null"]
    if len(others) != 1:
        raise RecordSchemaError(
            f'{path}: a union may only be ["null", T], since a table column has one type; '
            f"choose one of its {len(others)} types or split the field"
        )
    shape = _shape(others[0], named, path, inside)
    return Nullable(shape) if len(branches) > 1 else shape


def _plain(name: str, attributes: Mapping[str, object], path: str) -> Shape:
    logical = attributes.get("logicalType")
    if logical == "decimal" and name in ("bytes", "fixed"):
        return _exact(attributes, path)
    if logical is not None:
        kind = _LOGICAL.get((name, str(logical)))
        if kind is None:
            supported = ", ".join(sorted({"decimal", *(logical for _, logical in _LOGICAL)}))
            raise RecordSchemaError(f"{path}: logical type {logical!r} on {name} is not supported; use {supported}")
        return Scalar(kind)
    if name == "string":
        return Text(attributes.get("lowCardinality") is True)
    if name == "fixed":
        return Fixed(cast("int", attributes["size"]))
    if name not in _PLAIN:
        raise RecordSchemaError(f"{path}: type {name!r} cannot be a field of a record")
    return Scalar(_PLAIN[name])


def _exact(attributes: Mapping[str, object], path: str) -> Exact:
    precision, scale = cast("int", attributes["precision"]), cast("int", attributes.get("scale", 0))
    if precision > MAX_PRECISION:
        raise RecordSchemaError(
            f"{path}: decimal precision {precision} is over {MAX_PRECISION}, the most that ClickHouse holds"
        )
    return Exact(precision, scale)
