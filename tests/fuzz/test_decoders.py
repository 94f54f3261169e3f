"""Every decoder, fed with damaged bytes: it reads them or raises the one error that it documents, in bounded time and memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.errors import BadRecord, PipelineError
from processors.extraction.reading import BadArchive, unpacked
from processors.messages.scrape_request import ScrapeRequest, canonical_url, encode_request, read_request
from processors.messages.wire import (
    decode_command,
    decode_event,
    decode_result,
    decode_saga,
    decode_saga_fields,
    encode_command,
    encode_event,
    encode_saga,
)
from processors.pipeline.pipeline import read_pipeline
from processors.pipeline.plan_store import PlanBook, UnknownPlan
from processors.saga.events import (
    Cancelled,
    Compensated,
    CompensationFailed,
    Confirmed,
    ConfirmFailed,
    Event,
    Failed,
    Redriven,
    Resumed,
    ResumeMode,
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.plan import Plan, decode_plan, encode_plan
from processors.saga.state import Origin
from processors.saga_table.changelog import peek, seq_of
from processors.spend.book import SpendBook, SpendEntry, SpendState
from schemas.codec import HEADER_BYTES, UndecodableMessage, codec
from schemas.record import RecordSchema, RecordSchemaError, UnreadableRecord
from tests.fuzz.bytes import MOST_BYTES, MOST_YAML_CPU_S, bounded, damaged, peak_bytes
from tests.sagas import compensating, plan

PLAN = plan("ab")
JOB = compensating()
ENTRY = SpendEntry(
    key="j:1:enrich",
    version=1,
    pipeline="p",
    step="enrich",
    content_hash="c",
    cost=Decimal("0.002"),
    cap=Decimal(5),
    state=SpendState.PAID,
    seq=3,
    written_by="j:1:enrich",
    at="2026-01-01T00:00:00.000+00:00",
    known=True,
    response=b"{}",
)
EVENTS: tuple[Event, ...] = (
    Submitted("j", PLAN, "http://x/", b'{"a":1}', "c", Origin(0, 1), "batch", "trace"),
    Succeeded("j", 1, "a", 2, b'{"data":{}}'),
    Failed("j", 1, "a", 2, "no", True, True, 5),
    Compensated("j", 1, "a", 2),
    CompensationFailed("j", 1, "a", 2, "no", True, 5),
    Confirmed("j", 1, "a", 2),
    ConfirmFailed("j", 1, "a", 2, "no", True, 5),
    TimedOut("j", 2),
    Cancelled("j", "ann", "why"),
    Resumed("j", ResumeMode.SKIP, "ann", "why"),
    Redriven("j", "a", PLAN, "ann", "why"),
)
COMMAND = JOB.command
assert COMMAND is not None
# What CI has time for; `make fuzz` sets more.
EXAMPLES = int(os.environ.get("SCRAPESAGA_TEST_FUZZ", "60"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plans(plan_hash: str) -> Plan:
    if plan_hash != PLAN.hash:
        raise UnknownPlan(plan_hash)
    return PLAN


def survives(decode: Callable[[bytes], object], data: bytes, *errors: type[Exception]) -> None:
    """Decode; anything but a value or a documented error, with something to say, is a failure."""
    with bounded():
        try:
            decode(data)
        except errors as error:
            assert str(error)


WIRE: dict[str, tuple[Callable[[bytes], object], tuple[bytes, ...]]] = {
    "event": (lambda data: decode_event(data, plans), tuple(map(encode_event, EVENTS))),
    "command": (decode_command, (encode_command(COMMAND),)),
    "state": (lambda data: decode_saga(data, plans), (encode_saga(JOB.state),)),
    "state's fields": (decode_saga_fields, (encode_saga(JOB.state),)),
    "result": (decode_result, (encode_event(EVENTS[1]), encode_event(EVENTS[2]))),
    "spend entry": (SpendEntry.decode, (ENTRY.encode(),)),
    "first fields": (peek, (encode_saga(JOB.state),)),
    "seq": (seq_of, (encode_saga(JOB.state),)),
    "request": (
        lambda data: read_request(data, None),
        (encode_request(ScrapeRequest("http://x/", payload={"a": [1]})),),
    ),
}


@pytest.mark.parametrize("name", WIRE)
@given(data=st.data())
@FUZZ
def test_messages_are_read_or_refused(name: str, data: st.DataObject) -> None:
    """Damage anywhere behind the header of a message ends in a value or in BadRecord."""
    decode, whole = WIRE[name]
    survives(decode, data.draw(damaged(st.sampled_from(whole), keep=HEADER_BYTES)), BadRecord)
    survives(decode, data.draw(damaged(st.sampled_from(whole))), BadRecord)
    survives(decode, data.draw(st.binary(max_size=64)), BadRecord)


@pytest.mark.parametrize("name", WIRE)
def test_a_length_that_lies_costs_no_memory(name: str) -> None:
    """A message that claims gigabytes, at any place, is refused for what it has."""
    decode, whole = WIRE[name]
    for good in whole:
        for at in range(HEADER_BYTES, len(good)):
            for lie in (b"\xfe\xff\xff\xff\x0f", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"):
                bad = good[:at] + lie + good[at:]
                assert peak_bytes(partial(survives, decode, bad, BadRecord)) < MOST_BYTES


@given(data=damaged(st.sampled_from([codec("saga_state").header, codec("submitted").header]), keep=2))
@FUZZ
def test_an_unknown_fingerprint_is_named(data: bytes) -> None:
    """A message of a schema that isn't known is an error of the codec, and of nothing else."""
    survives(codec("saga_state").decode, data, UndecodableMessage)


@given(text=damaged(st.sampled_from([encode_plan(PLAN)])))
@FUZZ
def test_plans_are_read_or_refused(text: bytes) -> None:
    """A plan that was edited by as much as a blank either is the same plan or doesn't match its hash."""
    with bounded():
        try:
            assert decode_plan(text) == PLAN
        except PipelineError as error:
            assert str(error)


@given(
    key=st.sampled_from([b"plan:", b"pipeline:", b""]),
    more=st.binary(max_size=9),
    value=damaged(st.just(encode_plan(PLAN))),
)
@FUZZ
def test_a_book_of_plans_takes_any_record(key: bytes, more: bytes, value: bytes) -> None:
    """A record that is no plan stops nobody: every process reads this topic at its start."""
    PlanBook().apply(key + more, value)


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", "-1", "1e400000000", "1e40", ""])
@pytest.mark.parametrize("which", ["cost", "cap"])
def test_money_that_is_none_is_refused(number: str, which: str) -> None:
    """One entry with an amount that can't be summed must not make every sum of the ledger impossible."""
    fields = codec("spend_entry").decode(ENTRY.encode())
    fields[which] = number
    with pytest.raises(BadRecord):
        SpendEntry.decode(codec("spend_entry").encode(fields))


@given(data=damaged(st.just(ENTRY.encode()), keep=HEADER_BYTES))
@FUZZ
def test_a_damaged_entry_leaves_the_book_able_to_count(data: bytes) -> None:
    """Whatever entry can be read can be folded, and the sum can be compared with a cap."""
    try:
        entry = SpendEntry.decode(data)
    except BadRecord:
        return
    book = SpendBook()
    book.fold(0, entry.key, entry)
    book.fold(1, "other", replace(ENTRY, key="other", pipeline=entry.pipeline))
    assert isinstance(book.total(entry.pipeline) <= Decimal(5), bool)


@given(text=st.text(max_size=60) | st.text("http:/?#@[]%\\.;&=x0 ", max_size=60))
@FUZZ
def test_urls_are_canonical_or_refused(text: str) -> None:
    """Any text becomes a URL whose form is stable, or is refused; none carries a user name."""
    for url in (text, "http://" + text, "https://x" + text):
        with bounded():
            try:
                canonical = canonical_url(url)
            except BadRecord as error:
                assert str(error)
                continue
            assert canonical_url(canonical) == canonical
            assert "@" not in canonical.split("/")[2]


GOOD_PIPELINE = b"""name: shop
record: product
deadline: 1h
steps:
  - use: fetch
    timeout: 30s
    retry: {attempts: 5, base: 1s}
  - use: parse
    with: {fields: {title: {css: h1}, price: {css: [.price, .p], type: money}}}
  - use: enrich
    with: {url: "https://api.example/enrich", cost: 0.002, auth: {bearer: TOKEN}}
  - use: notify
"""
WORDS = st.sampled_from(
    [
        b"name",
        b"steps",
        b"use",
        b"with",
        b"~",
        b"!!python/object:os.system",
        b"&a",
        b"*a",
        b"{",
        b"[",
        b"- ",
        b"\n",
        b": ",
        b"1e999",
        b"\t",
        b"\x00",
    ]
)


@given(text=damaged(st.just(GOOD_PIPELINE)) | st.lists(WORDS, max_size=30).map(b" ".join))
@FUZZ
def test_pipelines_are_read_or_refused(text: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any text in a pipeline file is a plan, or an error that names the file."""
    path = tmp_path_factory.getbasetemp() / "pipeline.yaml"
    path.write_bytes(text)
    with bounded():
        try:
            read_pipeline(path)
        except PipelineError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb0: &b0 [*a, *a]\n" + "".join(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 40)),
        "name: p\nsteps: [{use: enrich, with: {url: 'http://x/', headers: &h {a: *h}}}]\n",
        "name: p\nsteps: &s [{use: fetch, with: {headers: {x: *s}}}]\n",
        "name: p\nsteps:\n- use: fetch\n  with: &w {accept: [*w]}\n",
        "name: p\nsteps: " + "[" * 5_000,
        "name: p\nsteps: " + "{a: " * 5_000,
        "name: p\nsteps: [{use: parse, with: {fields: {a: {css: " + "'" + "a:not(" * 3_000 + "'}}}}]\n",
        "name: p\nsteps: [{use: 'os:system'}]\n",
        "name: p\nsteps: [{use: 'json:loads'}]\n",
        "!!python/object/apply:os.system ['true']\n",
    ],
    ids=["bomb", "loop", "loop-2", "loop-3", "lists", "maps", "selector", "function", "callable", "object"],
)
def test_hostile_pipelines_are_refused_at_once(text: str, tmp_path: Path) -> None:
    """Bombs, loops, endless nesting and names of what is no step end as an error of the pipeline."""
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with bounded(MOST_YAML_CPU_S), pytest.raises(PipelineError, match=r"hostile\.yaml"):
        read_pipeline(path)


SCHEMA_WORDS = st.recursive(
    st.sampled_from(["string", "long", "double", "null", "bytes", "bogus", "", 1, None, True, "R"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"type": inner},
            optional={
                "name": st.sampled_from(["R", "a", "a b", "", 3]),
                "fields": st.lists(inner, max_size=3),
                "items": inner,
                "values": inner,
                "symbols": inner,
                "logicalType": st.sampled_from(["decimal", "date", "timestamp-millis", "x"]),
                "default": inner,
                "precision": st.integers(-1, 99),
                "size": st.integers(-5, 5),
            },
        )
    ),
    max_leaves=12,
)


@given(value=SCHEMA_WORDS)
@FUZZ
def test_record_schemas_are_read_or_refused(value: object) -> None:
    """Any JSON is a record schema, or an error that says what is wrong with it."""
    with bounded():
        try:
            RecordSchema.parse(json.dumps({"type": "record", "name": "R", "fields": [{"name": "a", "type": value}]}))
        except RecordSchemaError as error:
            assert str(error)


@given(text=st.text(max_size=40) | st.text('{}[]":,0 a', max_size=40))
@FUZZ
def test_texts_that_are_no_schema_are_refused(text: str) -> None:
    """Text that isn't JSON, or JSON that is no record, is an error of the schema."""
    with bounded(), pytest.raises(RecordSchemaError):
        RecordSchema.parse(text)


PRODUCT = RecordSchema.load("product")
RECORD = PRODUCT.encode(
    PRODUCT.conform({"url": "http://x/", "title": "Tent", "price": {"amount": "10.00", "currency": "EUR"}})
)


@given(data=damaged(st.just(RECORD)))
@FUZZ
def test_records_are_read_or_refused(data: bytes) -> None:
    """A damaged record of a pipeline's own schema ends in a value or in its documented error."""
    survives(PRODUCT.decode, data, UnreadableRecord)


@given(data=damaged(st.just(zstandard.compress(b"<h1>x</h1>" * 50))))
@FUZZ
def test_pages_are_read_or_refused(data: bytes) -> None:
    """An archived page that was damaged, or is a bomb, is given up with a reason."""
    survives(unpacked, data, BadArchive)
