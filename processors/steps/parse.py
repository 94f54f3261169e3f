"""The step `parse`: typed fields out of the archived page, checked against the pipeline's record schema."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec
import zstandard

from processors.errors import PipelineError, RecordGone, StepFailed
from processors.extraction.charset import decode
from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import FieldError, Fields, compile_fields
from processors.redaction import sanitised_url
from processors.step import NOTHING_TO_UNDO, Address, Host, Json, Step, StepCall, StepOutput, StepParams
from processors.steps.record import record_schema_of
from schemas.record import RecordMismatch, RecordSchema

# A few kilobytes of zstd can claim to be gigabytes. The largest pages worth parsing have some ten megabytes.
_MOST_PAGE_BYTES = 64 * 1024 * 1024


class ParseParams(StepParams, frozen=True):
    """Parameters of `parse`.

    `fields` maps each field of the record to a CSS selector or to a mapping of Field's keys; `preset: product` brings
    fields of its own, which `fields` overrides. `page` names the step whose page is read, by default the first that
    archived one.
    """

    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    preset: str | None = None
    page: str = ""


class Parse(Step):
    """Read the page by its claim check, and extract the fields; the same page always gives the same record."""

    Params: ClassVar[type[StepParams]] = ParseParams
    params: ParseParams
    compensate = NOTHING_TO_UNDO

    def __init__(self, name: str, params: ParseParams, host: Host) -> None:
        super().__init__(name, params, host)
        self._fields = _compiled(params)

    @classmethod
    def check(cls, params: ParseParams) -> None:
        """Refuse selectors, types and presets that cannot work."""
        _compiled(params)

    @classmethod
    def check_record(cls, params: ParseParams, schema: RecordSchema) -> None:
        """Refuse fields that the record schema doesn't have; for `pipeline lint`, which knows the schema."""
        known = _names(schema)
        if unknown := [name for name in _compiled(params).names if name not in known]:
            raise PipelineError(
                f"fields: {', '.join(unknown)} not in the record {schema.name}, which has {', '.join(known)}; "
                f"rename the field here or add it to the schema"
            )

    async def run(self, call: StepCall) -> StepOutput:
        """Extract the record's fields from the page."""
        schema = record_schema_of(call)
        fetched = self._fetched(call)
        body = await self._read(fetched)
        # In a thread: a large page takes a second, during which the worker must go on telling Kafka that it lives.
        record, encoding = await asyncio.to_thread(self._record, call, schema, fetched, body)
        return StepOutput(data={"encoding": encoding}, record=record)

    def _fetched(self, call: StepCall) -> Mapping[str, Json]:
        if self.params.page:
            named = call.outputs.get(self.params.page, {})
            if "page" not in named:
                raise StepFailed(f"step {call.step}: {self.params.page} archived no page; correct `page`")
            return named
        for output in call.outputs.values():
            if "page" in output:
                return output
        raise StepFailed(f"step {call.step}: no step before it archived a page; put `use: fetch` first")

    async def _read(self, fetched: Mapping[str, Json]) -> bytes:
        try:
            archived = await self.host.read(Address.from_json(fetched["page"]), fetched["page_key"].encode())
        except RecordGone as gone:
            raise StepFailed(f"the archived page is gone, redrive from the step that fetches it: {gone}") from gone
        return unpacked(archived)

    def _record(
        self, call: StepCall, schema: RecordSchema, fetched: Mapping[str, Json], body: bytes
    ) -> tuple[dict[str, object], str]:
        html, encoding = decode(body, fetched.get("content_type"))
        address = fetched.get("url") or call.url
        try:
            found = extract(html, address, self._fields, _moment(fetched.get("fetched_at")))
            if "url" in _names(schema) and "url" not in call.record:
                found = {"url": address, **found}
            record = schema.to_json(schema.conform({**call.record, **found}))
        except (FieldMissing, RecordMismatch) as error:
            raise StepFailed(f"step {call.step}, page {sanitised_url(address)}: {error}") from error
        # Only what was found: a default here would hide what a step before this one has said.
        return {name: record[name] for name in found}, encoding


def unpacked(archived: bytes) -> bytes:
    """Return a page as it was before it was archived. Raises StepFailed."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(archived) as pages:
            body = pages.read(_MOST_PAGE_BYTES + 1)
    except zstandard.ZstdError as error:
        raise StepFailed(f"the archived page is not zstd: {error}") from error
    if len(body) > _MOST_PAGE_BYTES:
        raise StepFailed(f"the page is over {_MOST_PAGE_BYTES} bytes, more than a page worth parsing has")
    return body


def _compiled(params: ParseParams) -> Fields:
    try:
        return compile_fields(params.fields, params.preset)
    except FieldError as error:
        raise PipelineError(str(error)) from error


def _names(schema: RecordSchema) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column.avro_path.partition(".")[0] for column in schema.columns()))


def _moment(text: Json) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
