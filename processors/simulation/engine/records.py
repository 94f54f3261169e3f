"""A record that fits a schema: what modelled steps hand on to those that are really run."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

_PLAIN: dict[str, Any] = {
    "string": "text",
    "int": 1,
    "long": 1,
    "float": 1.5,
    "double": 1.5,
    "boolean": True,
    "null": None,
    "bytes": "text",
}
_LOGICAL: dict[str, Any] = {
    "decimal": "1.50",
    "date": "2023-11-14",
    "timestamp-millis": "2023-11-14T22:13:20Z",
    "timestamp-micros": "2023-11-14T22:13:20Z",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


@lru_cache(maxsize=16)
def sample_record(schema: str) -> dict[str, Any]:
    """Return a JSON-able record for an Avro schema (JSON text), each field filled; empty if it is no record."""
    parsed = json.loads(schema or "{}")
    value = _sample(parsed) if parsed else {}
    return value if isinstance(value, dict) else {}


def _sample(schema: Any) -> Any:
    if isinstance(schema, str):
        return _PLAIN.get(schema)
    if isinstance(schema, list):
        return next((_sample(one) for one in schema if one != "null"), None)
    if schema.get("logicalType") in _LOGICAL:
        return _LOGICAL[schema["logicalType"]]
    match schema.get("type"):
        case "record":
            return {field["name"]: _sample(field["type"]) for field in schema["fields"]}
        case "array":
            return [_sample(schema["items"])]
        case "map":
            return {"key": _sample(schema["values"])}
        case "enum":
            return schema["symbols"][0]
        case other:
            return _sample(other) if other is not None else None
