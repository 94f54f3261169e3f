"""The record schema's promises: conform, wire format, columns."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.record import RecordMismatch, RecordSchema, RecordSchemaError, UnreadableRecord

PRODUCT = RecordSchema.load("product")
MINIMAL = {"url": "https://shop.example/1", "title": "Lamp"}


def schema_of(*fields: object, name: str = "T") -> RecordSchema:
    return RecordSchema.parse(json.dumps({"type": "record", "name": name, "fields": list(fields)}))


def one(avro_type: object, **extra: object) -> RecordSchema:
    return schema_of({"name": "f", "type": avro_type, **extra})


EVERYTHING = schema_of(
    {"name": "flag", "type": "boolean"},
    {"name": "small", "type": "int"},
    {"name": "big", "type": "long"},
    {"name": "single", "type": "float"},
    {"name": "real", "type": "double"},
    {"name": "text", "type": "string"},
    {"name": "raw", "type": "bytes"},
    {"name": "mark", "type": {"type": "fixed", "name": "Mark", "size": 2}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    {"name": "exact", "type": {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 6}},
    {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "at_us", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "maybe", "type": ["null", "long"]},
    {"name": "many", "type": {"type": "array", "items": ["null", "string"]}},
    {"name": "keyed", "type": {"type": "map", "values": "double"}},
    {"name": "inner", "type": ["null", {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "int"}]}]},
    {"name": "inners", "type": {"type": "array", "items": "Inner"}},
    name="Everything",
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moments = st.datetimes(datetime(1900, 1, 2), datetime(2299, 12, 30), timezones=st.just(UTC))
everything = st.fixed_dictionaries(
    {
        "flag": st.booleans(),
        "small": st.integers(-(2**31), 2**31 - 1),
        "big": st.integers(-(2**63), 2**63 - 1),
        "single": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "real": st.floats(allow_nan=False, allow_infinity=False),
        "text": texts,
        "raw": st.binary(max_size=9),
        "mark": st.binary(min_size=2, max_size=2),
        "kind": st.sampled_from("AB"),
        "exact": st.decimals(-(10**33), 10**33, places=6),
        "id": st.uuids(),
        "day": st.dates(date(1900, 1, 1), date(2299, 12, 31)),
        "at": moments.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
        "at_us": moments,
        "maybe": st.none() | st.integers(-5, 5),
        "many": st.lists(st.none() | texts, max_size=3),
        "keyed": st.dictionaries(texts, st.floats(-1e9, 1e9), max_size=3),
        "inner": st.none() | st.fixed_dictionaries({"x": st.integers(0, 9)}),
        "inners": st.lists(st.fixed_dictionaries({"x": st.integers(0, 9)}), max_size=2),
    }
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(everything)
@settings(max_examples=150, deadline=None)
def test_a_record_survives_every_way_it_travels(values: dict[str, object]) -> None:
    """JSON between steps and Avro on the topic both give back the record that went in; a row has all its columns."""
    record = EVERYTHING.conform(values)
    assert record == values
    assert EVERYTHING.conform(json.loads(json.dumps(EVERYTHING.to_json(record)))) == record
    assert EVERYTHING.decode(EVERYTHING.encode(record)) == record
    assert EVERYTHING.conform(record) == record
    assert len(EVERYTHING.row(record)) == len(EVERYTHING.columns())


@given(
    st.dictionaries(st.sampled_from([column.avro_path.split(".")[0] for column in EVERYTHING.columns()]), json_values)
)
@settings(max_examples=200, deadline=None)
def test_whatever_json_holds_either_fits_or_is_a_mismatch(values: dict[str, object]) -> None:
    """A step's answer never makes conform raise anything but RecordMismatch; what fits can be encoded."""
    filled = {"maybe": None, **values}
    try:
        record = EVERYTHING.conform(filled)
    except RecordMismatch as mismatch:
        assert mismatch.problems
    else:
        EVERYTHING.encode(record)


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_are_unreadable_and_nothing_worse(body: bytes, with_header: bool) -> None:
    """Any bytes either decode or raise UnreadableRecord."""
    try:
        PRODUCT.decode((b"\xc3\x01" + PRODUCT.fingerprint if with_header else b"") + body)
    except UnreadableRecord:
        pass


def test_the_bundled_product_takes_what_parse_finds_and_enrich_adds() -> None:
    """Money, images and the enrichers' answers land in the product record; all else is null or empty."""
    record = PRODUCT.conform(
        {
            **MINIMAL,
            "price": {"amount": "1299.90", "currency": "EUR"},
            "images": ["https://shop.example/1.jpg"],
            "price_eur": 1299.9,
            "confidence": 0.93,
            "label": "lighting",
        }
    )
    assert record["price"] == {"amount": Decimal("1299.9000"), "currency": "EUR"}
    assert record["price_eur"] == Decimal("1299.9000")
    assert (record["sku"], record["confidence"], record["images"]) == (None, 0.93, ["https://shop.example/1.jpg"])
    assert PRODUCT.conform(MINIMAL)["images"] == []


def test_money_goes_into_a_single_number_by_its_amount() -> None:
    """Where the schema's field is a decimal, a double or text, extracted money gives its amount."""
    money = {"f": {"amount": "12.50", "currency": "EUR"}}
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    assert one(decimal).conform(money) == {"f": Decimal("12.50")}
    assert one("double").conform(money) == {"f": 12.5}
    assert one("string").conform(money) == {"f": "12.50"}


def test_every_problem_is_told_at_once() -> None:
    """One error lists the missing field, the unreadable amount and the unknown key, each with its path."""
    with pytest.raises(RecordMismatch) as caught:
        PRODUCT.conform({"url": "u", "price": {"amount": "a lot"}, "colour": "red", "images": "x.jpg"})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["title", "price.amount", "images", "colour"]
    assert "'a lot' is not a number" in str(caught.value)
    assert "4 problems" in str(caught.value)


@pytest.mark.parametrize(
    ("avro_type", "value", "problem"),
    [
        ("int", 2**31, "out of range"),
        ("int", 1.5, "not a whole number"),
        ("int", True, "not a number"),
        ("long", "1_000", "not a number"),
        ("float", 1e39, "out of range"),
        ("double", float("nan"), "not a number"),
        ("boolean", "yes", "not true or false"),
        ("string", "\ud800", "surrogate"),
        ("string", None, "not nullable"),
        ("string", ["a"], "not text"),
        ("bytes", "%", "not base64"),
        ({"type": "fixed", "name": "F", "size": 3}, b"12", "2 bytes long, not 3"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B", "not one of A"),
        ({"type": "int", "logicalType": "date"}, "2024-13-01", "not an ISO 8601 date"),
        ({"type": "int", "logicalType": "date"}, "1020-01-01", "outside 1900-01-01"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "soon", "not an ISO 8601 moment"),
        ({"type": "long", "logicalType": "timestamp-millis"}, 10**30, "not an ISO 8601 moment"),
        ({"type": "string", "logicalType": "uuid"}, "x", "not a UUID"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, "100", "more than 2 digits"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, "99.999", "more than 2 digits"),
        ({"type": "array", "items": "int"}, {"a": 1}, "not a list"),
        ({"type": "map", "values": "int"}, {"a": "x"}, "f.a: 'x' is not a number"),
    ],
)
def test_a_value_that_does_not_fit_is_named(avro_type: object, value: object, problem: str) -> None:
    """What does not fit its type is refused with its reason, never cut, clamped or guessed."""
    with pytest.raises(RecordMismatch, match=problem):
        one(avro_type).conform({"f": value})


@pytest.mark.parametrize(
    ("avro_type", "value", "expected"),
    [
        ("long", "42", 42),
        ("long", 42.0, 42),
        ("string", 42, "42"),
        ("boolean", "True", True),
        ({"type": "int", "logicalType": "date"}, "2024-05-06T23:59:59Z", date(2024, 5, 6)),
        ({"type": "long", "logicalType": "timestamp-millis"}, "2024-05-06", datetime(2024, 5, 6, tzinfo=UTC)),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            "2024-05-06T07:08:09.123456+02:00",
            datetime(2024, 5, 6, 5, 8, 9, 123000, tzinfo=UTC),
        ),
        ({"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}, 0.125, Decimal("0.12")),
        ({"type": "string", "logicalType": "uuid"}, "0" * 32, UUID(int=0)),
    ],
)
def test_text_and_numbers_are_read_as_the_schema_says(avro_type: object, value: object, expected: object) -> None:
    """JSON has few types; a value that says clearly what the schema wants is taken."""
    assert one(avro_type).conform({"f": value}) == {"f": expected}


def test_defaults_are_those_of_the_schema() -> None:
    """Bytes and decimals are written as Latin-1 text in a schema's default; the record gets their values."""
    schema = schema_of(
        {"name": "raw", "type": "bytes", "default": "\u00ff"},
        {
            "name": "exact",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
            "default": "\u0001\u0000",
        },
        {"name": "none", "type": ["null", "string"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["new"]},
    )
    assert schema.conform({}) == {"raw": b"\xff", "exact": Decimal("2.56"), "none": None, "tags": ["new"]}


def test_the_wire_starts_with_marker_and_little_endian_fingerprint() -> None:
    """The header is the specification's: C3 01, then CRC-64-AVRO of the canonical form, lowest byte first."""
    empty = 0xC15D213AA4D7A795
    table = [0] * 256
    for at in range(256):
        crc = at
        for _ in range(8):
            crc = (crc >> 1) ^ (empty & -(crc & 1))
        table[at] = crc
    crc = empty
    for byte in b'{"name":"T","type":"record","fields":[{"name":"f","type":"int"}]}':
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    schema = one("int")
    assert schema.encode({"f": 1}) == b"\xc3\x01" + crc.to_bytes(8, "little") + b"\x02"


def test_a_record_of_an_older_schema_is_read_with_its_help() -> None:
    """A grown schema reads old records, filling in defaults, if it is given the old schema; else it says what it needs."""
    old = schema_of({"name": "f", "type": "int"})
    new = schema_of({"name": "f", "type": "int"}, {"name": "g", "type": ["null", "string"], "default": None})
    body = old.encode({"f": 1})
    assert new.decode(body, older=[old]) == {"f": 1, "g": None}
    with pytest.raises(UnreadableRecord, match="written with schema"):
        new.decode(body)


def test_bytes_after_the_end_are_damage() -> None:
    """A record with a tail is refused: it may be two records glued together."""
    schema = one("int")
    with pytest.raises(UnreadableRecord, match="left over"):
        schema.decode(schema.encode({"f": 1}) + b"\x00")


def test_columns_of_the_product_are_flat_and_typed() -> None:
    """Money becomes two columns; null stays null; arrays are empty rather than null."""
    types = {column.name: column.clickhouse_type for column in PRODUCT.columns()}
    assert types["price_amount"] == "Nullable(Decimal(18, 4))"
    assert types["price_currency"] == "LowCardinality(Nullable(String))"
    assert types["title"] == "String"
    assert types["images"] == "Array(String)"
    row = dict(zip(types, PRODUCT.row(PRODUCT.conform(MINIMAL)), strict=True))
    assert (row["price_amount"], row["price_currency"], row["images"]) == (None, None, [])


def test_every_type_has_its_column_type() -> None:
    """The table of the schema of all types, as ClickHouse spells it."""
    assert {column.name: column.clickhouse_type for column in EVERYTHING.columns()} == {
        "flag": "Bool",
        "small": "Int32",
        "big": "Int64",
        "single": "Float32",
        "real": "Float64",
        "text": "String",
        "raw": "String",
        "mark": "FixedString(2)",
        "kind": "LowCardinality(String)",
        "exact": "Decimal(40, 6)",
        "id": "UUID",
        "day": "Date32",
        "at": "DateTime64(3, 'UTC')",
        "at_us": "DateTime64(6, 'UTC')",
        "maybe": "Nullable(Int64)",
        "many": "Array(Nullable(String))",
        "keyed": "Map(String, Float64)",
        "inner_x": "Nullable(Int32)",
        "inners": "Array(Tuple(x Int32))",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('"string"', "must be of type `record`"),
        ('{"type": "record", "name": "T"}', "T: a record without fields"),
        ('{"type": "record", "fields": []}', "not a valid Avro schema"),
        ('{"type": "record", "name": "T", "fields": [{"name": "f", "type": "strng"}]}', "strng"),
        (
            '{"type": "record", "name": "T", "fields": [{"name": "f", "type": ["int", "string"]}]}',
            "f: a union may only",
        ),
        ('{"type": "record", "name": "T", "fields": [{"name": "f", "type": ["null", "T"]}]}', "f: T contains itself"),
        (
            '{"type": "record", "name": "T", "fields": [{"name": "f", "type": {"type": "int", "logicalType": "time-millis"}}]}',
            "f: logical type 'time-millis'",
        ),
        (
            '{"type": "record", "name": "T", "fields": [{"name": "a_b", "type": "int"}, {"name": "a", "type": '
            + '{"type": "record", "name": "A", "fields": [{"name": "b", "type": "int"}]}}]}',
            "would both be the column a_b",
        ),
    ],
)
def test_a_schema_that_cannot_work_is_refused_when_it_is_loaded(tmp_path: Path, text: str, says: str) -> None:
    """The error names the file and the field, before anything runs."""
    path = tmp_path / "mine.avsc"
    path.write_text(text)
    with pytest.raises(RecordSchemaError, match=says) as caught:
        RecordSchema.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_schema_says_what_there_is() -> None:
    """A wrong name lists the bundled schemas; a wrong path names the path."""
    with pytest.raises(RecordSchemaError, match="bundled: product"):
        RecordSchema.load("products")
    with pytest.raises(RecordSchemaError, match=r"nowhere\.avsc cannot be read"):
        RecordSchema.load("nowhere.avsc")


def test_a_pinned_schema_is_the_same_schema() -> None:
    """The text kept in a plan gives back the fingerprint, the columns and the records."""
    pinned = RecordSchema.parse(PRODUCT.text)
    assert (pinned.fingerprint, pinned.columns()) == (PRODUCT.fingerprint, PRODUCT.columns())
    assert pinned.decode(PRODUCT.encode(PRODUCT.conform(MINIMAL))) == PRODUCT.conform(MINIMAL)
