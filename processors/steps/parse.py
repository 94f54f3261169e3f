"""The step `parse`: extracts typed fields from the archived page, and checks them against the record schema."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from processors.errors import PipelineError, RecordGone, RetryLater, StepFailed
from processors.extraction.fields import FieldError, Fields, compile_fields
from processors.extraction.readers import PageReaders, ReaderLost
from processors.extraction.reading import PageValues, ReadPage, Unread, read_page, unpacked_at_most
from processors.extraction.sources import Pattern
from processors.redaction import sanitised_url
from processors.step import NOTHING_TO_UNDO, Address, EffectKind, Host, Json, Step, StepCall, StepOutput, StepParams
from processors.steps.record import record_schema_of
from schemas.record import RecordMismatch, RecordSchema

# A page of up to this many bytes takes some milliseconds whatever is on it: it is read in a thread, which spares a worker
# of small pages the 40 MiB of a reader.
_SMALL_PAGE_BYTES = 32 * 1024


class ParseParams(StepParams, frozen=True):
    """Parameters of `parse`.

    `fields` maps each field of the record to a CSS selector or to a mapping of Field's keys; `preset: product` brings
    fields of its own, which `fields` overrides. `min_quality`, from 0 to 1, leaves out what the preset is less sure of.
    `page` names the step whose page is read, by default the first that archived one.
    """

    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    preset: str | None = None
    min_quality: float | None = None
    page: str = ""


class Parse(Step):
    """Read the archived page and extract the fields; the same page always gives the same record."""

    Params: ClassVar[type[StepParams]] = ParseParams
    params: ParseParams
    effect = EffectKind.NONE
    compensate = NOTHING_TO_UNDO

    def __init__(self, name: str, params: ParseParams, host: Host) -> None:
        super().__init__(name, params, host)
        # Python's regular expressions can take for ever on a page of a hundred bytes.
        self._is_bounded = not any(
            isinstance(source, Pattern) for field in _compiled(params) for source in field.sources
        )
        self._fields = msgspec.json.encode(params.fields)
        self._readers: PageReaders | None = None

    async def close(self) -> None:
        """End the processes that read pages, unless another parse step of this worker uses them."""
        if self._readers is not None:
            readers, self._readers = self._readers, None
            await readers.leave()

    @classmethod
    def check(cls, params: ParseParams) -> None:
        """Refuse selectors, types and presets that cannot work."""
        _compiled(params)

    @classmethod
    def check_record(cls, params: ParseParams, schema: RecordSchema) -> None:
        """Refuse fields that the record schema doesn't have; for `pipeline lint`, which knows the schema."""
        known = _names(schema)
        fields = _compiled(params)
        # The preset brings more than every record wants; what the author named is wanted.
        if unknown := [name for name in fields.names if name not in known and name not in fields.optional]:
            raise PipelineError(
                f"fields: {', '.join(unknown)} not in the record {schema.name}, which has {', '.join(known)}; "
                f"rename the field here or add it to the schema"
            )

    async def run(self, call: StepCall) -> StepOutput:
        """Extract the record's fields from the page."""
        schema = record_schema_of(call)
        fetched = self._fetched(call)
        archived = await self._read(fetched)
        address = fetched.get("url") or call.url
        asked = ReadPage(
            archived=archived,
            content_type=fetched.get("content_type"),
            url=address,
            now=_moment(fetched.get("fetched_at")),
            fields=self._fields,
            preset=self.params.preset,
            min_quality=self.params.min_quality,
            record=_names(schema),
        )
        read = await self._values(asked)
        if isinstance(read, Unread):
            raise StepFailed(f"step {call.step}, page {sanitised_url(address)}: {read.reason}")
        try:
            record = _record(call, schema, address, self._with_quality(schema, read))
        except RecordMismatch as error:
            raise StepFailed(f"step {call.step}, page {sanitised_url(address)}: {error}") from error
        data: dict[str, Json] = {"encoding": read.encoding}
        return StepOutput(data=data | ({"quality": read.quality} if read.quality else {}), record=record)

    def _with_quality(self, schema: RecordSchema, read: PageValues) -> dict[str, Json]:
        kind = _quality_kind(schema)
        if not read.quality or kind is None or "quality" in self.params.fields:
            return read.values
        told = {name: sure if kind == "number" else f"{source} {sure}" for name, (source, sure) in read.quality.items()}
        return {**read.values, "quality": told}

    async def _values(self, asked: ReadPage) -> PageValues | Unread:
        if self._is_bounded and unpacked_at_most(asked.archived, _SMALL_PAGE_BYTES):
            return await asyncio.to_thread(read_page, asked)
        if self._readers is None:
            self._readers = PageReaders.joined(int(self.host.setting("PARSE_PROCESSES", "1")))
        try:
            return await self._readers.read(asked)
        except ReaderLost as lost:
            raise RetryLater(str(lost)) from lost

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
            return await self.host.read(Address.from_json(fetched["page"]), fetched["page_key"].encode())
        except RecordGone as gone:
            raise StepFailed(f"the archived page is gone, redrive from the step that fetches it: {gone}") from gone


def _record(call: StepCall, schema: RecordSchema, address: str, found: dict[str, Json]) -> dict[str, object]:
    if "url" in _names(schema) and "url" not in call.record:
        found = {"url": address, **found}
    record = schema.to_json(schema.conform({**call.record, **found}))
    # Only what was found: a default here would hide what a step before this one has said.
    return {name: record[name] for name in found}


def _compiled(params: ParseParams) -> Fields:
    try:
        return compile_fields(params.fields, params.preset, params.min_quality)
    except FieldError as error:
        raise PipelineError(str(error)) from error


def _names(schema: RecordSchema) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column.avro_path.partition(".")[0] for column in schema.columns()))


def _quality_kind(schema: RecordSchema) -> str | None:
    """How the record carries quality, by its field `quality`: a map of numbers, a map of text, or not at all."""
    column = next((column for column in schema.columns() if column.avro_path == "quality"), None)
    kind = column.clickhouse_type if column else ""
    return (
        "number"
        if kind in ("Map(String, Float64)", "Map(String, Float32)")
        else "text"
        if kind == "Map(String, String)"
        else None
    )


def _moment(text: Json) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
