"""The ClickHouse columns of a record schema, with a row's values in the same order.

Nested records are flattened (`price.amount` becomes `price_amount`). What ClickHouse cannot hold as null becomes its
empty value: an array, a map. A null record makes each of its columns null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from schemas.record_types import (
    Choice,
    Exact,
    Fixed,
    Keyed,
    Many,
    Nullable,
    RecordField,
    RecordSchemaError,
    RecordType,
    Scalar,
    ScalarKind,
    Shape,
    Text,
)

_SCALARS = {
    ScalarKind.BOOLEAN: "Bool",
    ScalarKind.INT: "Int32",
    ScalarKind.LONG: "Int64",
    ScalarKind.FLOAT: "Float32",
    ScalarKind.DOUBLE: "Float64",
    ScalarKind.BYTES: "String",
    ScalarKind.UUID: "UUID",
    ScalarKind.DATE: "Date32",
    ScalarKind.TIMESTAMP_MILLIS: "DateTime64(3, 'UTC')",
    ScalarKind.TIMESTAMP_MICROS: "DateTime64(6, 'UTC')",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its ClickHouse type, the dotted path of the Avro field it comes from."""

    name: str
    clickhouse_type: str
    avro_path: str


def columns_of(shape: RecordType) -> tuple[Column, ...]:
    """The columns in the schema's order; raises RecordSchemaError where two paths flatten to one name."""
    columns = tuple(_flattened(shape, (), nullable=False))
    taken: dict[str, str] = {}
    for column in columns:
        if column.name in taken:
            raise RecordSchemaError(
                f"{column.avro_path} and {taken[column.name]} would both be the column {column.name}; rename one"
            )
        taken[column.name] = column.avro_path
    return columns


def _flattened(shape: RecordType, above: tuple[str, ...], nullable: bool) -> Iterator[Column]:
    for member in shape.members:
        path = (*above, member.name)
        inner, optional = _opened(member.shape, nullable)
        if isinstance(inner, RecordType):
            yield from _flattened(inner, path, optional)
        else:
            yield Column("_".join(path), _column_type(inner, optional), ".".join(path))


def _opened(shape: Shape, nullable: bool) -> tuple[Shape, bool]:
    return (shape.of, True) if isinstance(shape, Nullable) else (shape, nullable)


def _column_type(shape: Shape, nullable: bool) -> str:
    match shape:
        case Nullable():
            return _column_type(shape.of, nullable=True)
        case Many():
            return f"Array({_column_type(shape.items, nullable=False)})"
        case Keyed():
            return f"Map(String, {_column_type(shape.values, nullable=False)})"
        case RecordType():
            # Inside arrays and maps there is nothing to flatten into; a null record is a tuple of nulls.
            members = ", ".join(f"{m.name} {_column_type(m.shape, nullable)}" for m in shape.members)
            return f"Tuple({members})"
        case Choice() | Text(low_cardinality=True):
            return "LowCardinality(Nullable(String))" if nullable else "LowCardinality(String)"
        case Text():
            plain = "String"
        case Exact():
            plain = f"Decimal({shape.precision}, {shape.scale})"
        case Fixed():
            plain = f"FixedString({shape.size})"
        case Scalar():
            plain = _SCALARS[shape.kind]
        case _:
            assert_never(shape)
    return f"Nullable({plain})" if nullable else plain


def row_of(shape: RecordType, record: Mapping[str, object] | None) -> tuple[object, ...]:
    """The record's values in the order of `columns_of`."""
    return tuple(_cells(shape, record))


def _cells(shape: RecordType, record: Mapping[str, object] | None) -> Iterator[object]:
    for member in shape.members:
        value = None if record is None else record[member.name]
        inner, _ = _opened(member.shape, nullable=False)
        if isinstance(inner, RecordType):
            yield from _cells(inner, value if isinstance(value, Mapping) else None)
        else:
            yield _cell(inner, value)


def _cell(shape: Shape, value: object) -> object:
    match shape:
        case Nullable():
            return _cell(shape.of, value)
        case Many():
            return [_cell(shape.items, item) for item in value] if isinstance(value, list) else []
        case Keyed():
            return {key: _cell(shape.values, item) for key, item in value.items()} if isinstance(value, Mapping) else {}
        case RecordType():
            return tuple(_cell(member.shape, _of(value, member)) for member in shape.members)
        case _:
            return value


def _of(record: object, member: RecordField) -> object:
    return record[member.name] if isinstance(record, Mapping) else None
