"""A call's record, checked against the record schema that its pipeline names."""

from __future__ import annotations

from functools import lru_cache

from processors.errors import StepFailed
from processors.step import StepCall
from schemas.record import RecordMismatch, RecordSchema, RecordSchemaError


def record_schema_of(call: StepCall) -> RecordSchema:
    """The pipeline's record schema; raises StepFailed if it names none, or none that works."""
    if not call.record_schema:
        raise StepFailed(
            f"pipeline {call.pipeline} names no record schema, and the step {call.step} needs one: "
            f"add `record: product`, or the path of your own .avsc"
        )
    try:
        return _schema(call.record_schema)
    except RecordSchemaError as error:
        raise StepFailed(str(error)) from error


def record_of(call: StepCall, schema: RecordSchema) -> dict[str, object]:
    """What the earlier steps found, as a record of the schema; raises StepFailed that names every field in the way."""
    try:
        return schema.conform(call.record)
    except RecordMismatch as mismatch:
        raise StepFailed(f"step {call.step}: {mismatch}") from mismatch


# A worker sees as many schemas as its pipelines had versions; to parse one takes a millisecond.
@lru_cache(maxsize=256)
def _schema(text: str) -> RecordSchema:
    # A plan pins the schema's text; a name or a path is what somebody wrote by hand.
    return RecordSchema.parse(text) if text.lstrip().startswith("{") else RecordSchema.load(text)
