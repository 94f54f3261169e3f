"""Requests in Confluent's wire format: read by the schema they were written with, and never lost to a registry that is away.

With SCRAPESAGA_TEST_REGISTRY_URL set, a real registry answers (Apicurio's: .../apis/ccompat/v7), where the test needs no
fault of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from processors.errors import BadRecord, ConfigurationError
from processors.kafka.producer import Outgoing
from processors.kafka.record import Batch, Record
from processors.messages.scrape_request import read_request
from processors.messages.wire import decode_event
from processors.roles import intake as intake_module
from processors.roles.intake import Intake, registry_reader
from processors.settings.settings import Settings
from schemas.codec import schema_of
from schemas.record import RecordSchema
from schemas.registry import RegistryCodec, RegistryReader, SchemaRefused
from tests.registry import Registry
from tests.sagas import plan
from topics.catalogue import Catalogue

PLAN = plan("ab", pipeline="shop")
THEIRS = {
    "type": "record",
    "name": f"Page{uuid4().hex[:8]}",
    "namespace": "com.example",
    "fields": [
        {"name": "crawl", "type": "long"},
        {"name": "url", "type": "string"},
        {"name": "label", "type": ["null", "string"], "default": None},
    ],
}


@pytest.fixture
def fake() -> Iterator[Registry]:
    """A registry that can be told to fail."""
    with Registry() as server:
        yield server


@pytest.fixture
def url(fake: Registry) -> str:
    """The real registry where one is named, else the fake."""
    return os.environ.get("SCRAPESAGA_TEST_REGISTRY_URL") or fake.url


class Sent:
    """Keeps what intake sends."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        self.records += records
        return list(range(len(records)))


def written(url: str, schema: dict[str, Any], value: dict[str, Any]) -> bytes:
    """What a producer with Confluent's own serializer puts on the topic."""
    # By record, as schemas of several producers share the topic.
    how = {"subject.name.strategy": record_subject_name_strategy}
    serialize = AvroSerializer(SchemaRegistryClient({"url": url}), json.dumps(schema), conf=how)
    found = serialize(value, SerializationContext("scrape.urls", MessageField.VALUE))
    assert found is not None
    return bytes(found)


def taken(url: str, *values: bytes) -> list[Outgoing]:
    """What intake makes of records of scrape.urls."""
    sent = Sent()
    intake = Intake(sent, {"shop": PLAN}, Catalogue(), registry=RegistryReader(url))
    records = [Record("scrape.urls", 0, at, 1, None, value, ()) for at, value in enumerate(values)]

    async def scenario() -> None:
        async with asyncio.timeout(30):
            await intake.handle(Batch(records, []))

    asyncio.run(scenario())
    return sent.records


def reason(record: Outgoing) -> str:
    """Why it is a dead letter."""
    assert record.topic == "scrape.dead-letters"
    return (dict(record.headers)["dead-letter-reason"] or b"").decode()


def test_our_own_schema_in_confluents_format_is_a_request(url: str) -> None:
    """A producer that takes scrape_request.avsc and Confluent's serializer is understood in every field."""
    asked = {"url": "https://a.example/1", "pipeline": "shop", "job_id": "j-1", "payload": '{"n": 1}', "label": "x"}
    (out,) = taken(url, written(url, schema_of("scrape_request"), asked))
    event = decode_event(out.value, lambda _hash: PLAN)
    assert (out.topic, out.key) == ("scrape.events", b"j-1")
    assert (event.url, event.payload, event.label) == ("https://a.example/1", b'{"n":1}', "x")  # type: ignore[union-attr]


def test_a_schema_of_the_producers_own_is_read_by_its_field_names(url: str) -> None:
    """Another name and more fields don't matter; what it lacks has its default."""
    (out,) = taken(url, written(url, THEIRS, {"crawl": 7, "url": "https://a.example/2", "label": "mine"}))
    event = decode_event(out.value, lambda _hash: PLAN)
    assert (event.url, event.label) == ("https://a.example/2", "mine")  # type: ignore[union-attr]


def test_what_the_registry_cant_explain_is_set_aside(url: str) -> None:
    """An id that nobody registered, damaged bytes and a record without a URL are dead letters, each with its reason."""
    good = written(url, THEIRS, {"crawl": 7, "url": "https://a.example/3", "label": None})
    no_url = {"type": "record", "name": f"Nothing{uuid4().hex[:8]}", "fields": [{"name": "n", "type": "int"}]}
    unknown = b"\0" + struct.pack(">I", 2_000_000_000) + good[5:]
    out = taken(url, unknown, good[:8], written(url, no_url, {"n": 1}), good)
    assert [one.topic.rpartition(".")[2] for one in out] == ["dead-letters", "dead-letters", "dead-letters", "events"]
    assert "schema 2000000000" in reason(out[0])
    assert "damaged Avro" in reason(out[1])
    assert "not a ScrapeRequest" in reason(out[2])


def test_a_schema_that_is_no_avro_record_is_set_aside(fake: Registry) -> None:
    """Whatever else lies under an id: the record is a dead letter, and intake goes on."""
    fake.register("texts", '"string"')
    fake.register("other", '{"type": "object"}')
    texts, other = (b"\0" + struct.pack(">I", 41 + place) + b"\x02a" for place in (0, 1))
    out = taken(fake.url, texts, other)
    assert "is no record" in reason(out[0])
    assert "no Avro that can be read" in reason(out[1])


def test_requests_wait_for_a_registry_that_is_away(fake: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them becomes a dead letter; once it answers, each schema is asked for once."""
    monkeypatch.setattr(intake_module, "_FIRST_WAIT_S", 0.01)
    value = written(fake.url, THEIRS, {"crawl": 7, "url": "https://a.example/4", "label": None})
    fake.requests.clear()
    fake.unavailable = 3
    out = taken(fake.url, value, value)
    assert [one.topic for one in out] == ["scrape.events"] * 2
    assert fake.requests == [("get", "41")] * 4


def test_without_a_registry_the_setting_is_named() -> None:
    """The dead letter says what would have helped."""
    with pytest.raises(BadRecord, match="SCRAPESAGA_SCHEMA_REGISTRY_URL"):
        read_request(b"\0\0\0\0\x29\x02a", None)


def test_intake_has_a_registry_by_setting() -> None:
    """None unless it is set; an address that is none stops the worker."""
    assert registry_reader(Settings()) is None
    assert registry_reader(Settings(schema_registry_url="http://registry:8081")) is not None
    with pytest.raises(ConfigurationError, match="SCRAPESAGA_SCHEMA_REGISTRY_URL"):
        registry_reader(Settings(schema_registry_url="registry:8081"))


def test_an_incompatible_record_schema_is_refused_by_the_registry(url: str) -> None:
    """A registry with the rule BACKWARD takes a field with a default, and refuses one without."""
    name = f"Item{uuid4().hex[:8]}"
    title = {"name": "title", "type": "string"}
    colour = {"name": "colour", "type": "string", "default": ""}
    size = {"name": "size", "type": "int"}

    def schema(*fields: dict[str, Any]) -> RecordSchema:
        return RecordSchema.parse(json.dumps({"type": "record", "name": name, "fields": list(fields)}))

    client = SchemaRegistryClient({"url": url})
    client.register_schema(name, Schema(schema(title).text, "AVRO"))
    if os.environ.get("SCRAPESAGA_TEST_REGISTRY_URL"):
        client.set_compatibility(subject_name=name, level="BACKWARD")
    record = {"title": "Lamp", "colour": "red", "size": 1}

    async def scenario() -> None:
        codec = RegistryCodec(url)
        assert (await codec.encode(schema(title, colour), record))[:1] == b"\0"
        with pytest.raises(SchemaRefused):
            await codec.encode(schema(title, colour, size), record)

    asyncio.run(scenario())
