"""A pipeline's record: one Avro schema checks what parse found, types the topic, shapes the warehouse table.

```python
product = RecordSchema.load("product")
record = product.conform({"url": ..., "title": ..., "price": {"amount": "12.99", "currency": "EUR"}})
product.decode(product.encode(record)) == record
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import cast

import fastavro
from fastavro.schema import SchemaParseException, UnknownType, fingerprint, to_parsing_canonical_form

from schemas.codec import HEADER_BYTES, MARKER
from schemas.record_columns import Column, columns_of, row_of
from schemas.record_types import RecordSchemaError, RecordType, record_shape
from schemas.record_values import fit_record, jsonable

__all__ = ["Column", "RecordMismatch", "RecordSchema", "RecordSchemaError", "UnreadableRecord"]

# Tells a pipeline's records from the engine's own messages, whose schemas lie in the same folder.
_BUNDLED_NAMESPACE = "scrapesaga.records."


class RecordMismatch(ValueError):
    """Values do not fit the record schema; `problems` holds every one of them, each with its path."""

    def __init__(self, schema: str, problems: Iterable[str]) -> None:
        self.schema = schema
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"values do not fit the record {schema} ({count}): {'; '.join(self.problems)}")


class UnreadableRecord(ValueError):
    """Bytes are not a record of this schema, nor of an older one that the reader was given."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordSchema:
    """A record schema, parsed once; every method is a pure function of its arguments.

    `text` is the whole schema as JSON, to be pinned in a saga's plan and read back with `parse`.
    `fingerprint` is CRC-64-AVRO in the byte order of the wire. It covers names and types, not logical types: to
    change a decimal's scale, rename the field.
    """

    name: str
    text: str
    fingerprint: bytes
    _avro: dict[str, object]
    _shape: RecordType
    _columns: tuple[Column, ...]

    @classmethod
    def load(cls, name_or_path: str | Path) -> RecordSchema:
        """The bundled schema of that name, or the user's own from a path ending in `.avsc`.

        Raises RecordSchemaError that says which file and what to change.
        """
        source = str(name_or_path)
        if not source.endswith(".avsc"):
            return cls._bundled(source)
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise RecordSchemaError(f"record schema {source} cannot be read: {error}") from error
        return cls.parse(text, source)

    @classmethod
    def _bundled(cls, name: str) -> RecordSchema:
        texts = {
            file.name.removesuffix(".avsc"): file.read_text("utf-8")
            for file in resources.files("schemas").iterdir()
            if file.name.endswith(".avsc") and f'"{_BUNDLED_NAMESPACE.rstrip(".")}"' in file.read_text("utf-8")
        }
        if name not in texts:
            raise RecordSchemaError(
                f"there is no bundled record schema {name!r} (bundled: {', '.join(sorted(texts))}); "
                f"for one of your own give a path that ends in .avsc"
            )
        return cls.parse(texts[name], f"{name}.avsc")

    @classmethod
    def parse(cls, text: str, source: str = "the record schema") -> RecordSchema:
        """The schema that `text` holds; `source` names it in errors."""
        try:
            raw = json.loads(text)
            named: dict[str, dict[str, object]] = {}
            avro = fastavro.parse_schema(raw, named_schemas=named)
            if not isinstance(avro, dict) or avro.get("type") != "record":
                raise RecordSchemaError("the top of a record schema must be of type `record`")
            shape = record_shape(avro, named)
            columns = columns_of(shape)
        except (json.JSONDecodeError, RecursionError) as error:
            raise RecordSchemaError(f"{source} is not JSON: {error}") from error
        except RecordSchemaError as error:
            raise RecordSchemaError(f"{source}: {error}") from error
        except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, AttributeError) as error:
            # fastavro answers a malformed schema with whatever its code trips over.
            reason = f"it needs the key {error}" if type(error) is KeyError else error
            raise RecordSchemaError(f"{source} is not a valid Avro schema: {reason}") from error
        mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(avro), "CRC-64-AVRO"))
        return cls(shape.name, json.dumps(raw), mark, avro, shape, columns)

    def conform(self, values: Mapping[str, object]) -> dict[str, object]:
        """The values as a record of this schema, defaults filled in; raises RecordMismatch with all problems.

        Takes what JSON can carry, or a record: `conform(to_json(record)) == record == conform(record)`.
        Numbers and dates may be text; decimals are rounded half to even to the schema's scale; money
        ({"amount", "currency"}) becomes the schema's money record, or its amount where the field is one number or text.
        """
        problems: list[str] = []
        record = fit_record(self._shape, values, "", problems)
        if problems:
            raise RecordMismatch(self.name, problems)
        return record

    def to_json(self, record: Mapping[str, object]) -> dict[str, object]:
        """The record as JSON-able values, for passing between steps; `conform` is the way back."""
        return cast("dict[str, object]", jsonable(self._shape, record))

    def encode(self, record: Mapping[str, object]) -> bytes:
        """The record in Avro single-object encoding; it must come from `conform`."""
        out = BytesIO()
        out.write(MARKER + self.fingerprint)
        fastavro.schemaless_writer(out, self._avro, record)
        return out.getvalue()

    def decode(self, body: bytes, older: Iterable[RecordSchema] = ()) -> dict[str, object]:
        """The record that `encode` made, here or under one of the `older` schemas; raises UnreadableRecord."""
        if body[:2] != MARKER or len(body) < HEADER_BYTES:
            raise UnreadableRecord(f"not an Avro single-object record: it starts with {body[:2].hex() or 'nothing'}")
        mark = body[2:HEADER_BYTES]
        writer = next((schema for schema in (self, *older) if schema.fingerprint == mark), None)
        if writer is None:
            raise UnreadableRecord(
                f"written with schema {mark.hex()}, but {self.name} is {self.fingerprint.hex()}; "
                f"give the schema that it was written with as an older one"
            )
        payload = BytesIO(body[HEADER_BYTES:])
        try:
            record = fastavro.schemaless_reader(payload, writer._avro, None if writer is self else self._avro)
        except Exception as error:
            # fastavro promises no exception type for damaged bytes.
            raise UnreadableRecord(f"damaged record of {writer.name}: {error}") from error
        if payload.read(1):
            raise UnreadableRecord(f"damaged record of {writer.name}: bytes are left over after its end")
        return cast("dict[str, object]", record)

    def columns(self) -> tuple[Column, ...]:
        """The ClickHouse columns of the schema, nested records flattened with `_`."""
        return self._columns

    def row(self, record: Mapping[str, object]) -> tuple[object, ...]:
        """The record's values in the order of `columns`, as clickhouse-connect inserts them."""
        return row_of(self._shape, record)
