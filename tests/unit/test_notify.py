"""`notify` publishes the record in its own schema, and takes it back by a tombstone under the same key."""

from __future__ import annotations

import asyncio
import base64
import builtins
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from processors.errors import ConfigurationError, PipelineError, RetryLater, StepFailed
from processors.step import StepCall
from processors.steps.notify import Notify, NotifyParams
from processors.testing import MemoryHost, open_step, step_call
from schemas.record import RecordSchema
from tests.registry import Registry

PRODUCT = RecordSchema.load("product")
RECORD = {
    "url": "https://shop.example/1",
    "title": "Lamp",
    "sku": "L-1",
    "price": {"amount": "12.9900", "currency": "EUR"},
}


def call(
    record: Mapping[str, Any] = RECORD, output: Mapping[str, Any] | None = None, schema: str = PRODUCT.text
) -> StepCall:
    """A command of the step."""
    return step_call(
        "notify",
        job_id="job-1",
        run=2,
        pipeline="shop-prices",
        seq=7,
        record=record,
        output=output,
        record_schema=schema,
    )


def notify(host: MemoryHost, *commands: Callable[[Notify], Any], key: str = "job_id") -> Any:
    """Open a step and give it the commands; return the last one's result."""

    async def scenario() -> Any:
        result = None
        async with open_step(Notify, {"key": key}, name="notify", host=host) as step:
            for command in commands:
                result = await command(step)
        return result

    return asyncio.run(scenario())


def test_a_record_is_published_in_its_own_schema() -> None:
    """Key, value and headers tell a reader everything, with nothing but the schema at hand."""
    host = MemoryHost()
    output = notify(host, lambda step: step.run(call()))
    (record,) = host.records("records")
    assert record.key == b"job-1"
    assert record.value is not None
    assert PRODUCT.decode(record.value)["price"] == {"amount": Decimal("12.9900"), "currency": "EUR"}
    assert record.headers == {
        "job_id": b"job-1",
        "run": b"2",
        "seq": b"7",
        "pipeline": b"shop-prices",
        "schema-fingerprint": PRODUCT.fingerprint.hex().encode(),
        "content-type": b"application/avro;encoding=single-object",
    }
    assert output.data["key"] == "job-1"
    assert (output.data["topic"], output.data["offset"]) == ("scrape.records", 0)


def test_a_repeat_publishes_the_same_bytes() -> None:
    """Readers of the compacted topic see one record, whatever was redelivered."""
    host = MemoryHost()
    notify(host, lambda step: step.run(call()), lambda step: step.run(call()))
    first, second = host.records("records")
    assert (first.key, first.value) == (second.key, second.value)


def test_the_compensation_leaves_nothing_in_the_compacted_view() -> None:
    """With the job's id as key not even the record needs to be known."""
    host = MemoryHost()
    notify(host, lambda step: step.run(call()), lambda step: step.compensate(call(record={}, schema="")))
    assert host.records("records")[-1].value is None
    assert host.records("records")[-1].headers["seq"] == b"7"
    assert host.compacted("records") == {}


@pytest.mark.parametrize("output", [None, {"key": "L-1"}])
def test_a_business_key_is_taken_back_by_output_or_by_record(output: Mapping[str, Any] | None) -> None:
    """The reply of run may have been lost: the record has the key too."""
    host = MemoryHost()
    record = RECORD if output is None else {}
    notify(host, lambda step: step.run(call()), lambda step: step.compensate(call(record, output)), key="sku")
    assert [(r.key, r.value is None) for r in host.records("records")] == [(b"L-1", False), (b"L-1", True)]


def test_a_number_as_key_is_the_same_in_run_and_compensation() -> None:
    """The record schema decides how a key is spelled, whatever a step put into the record."""
    schema = json.dumps({"type": "record", "name": "T", "fields": [{"name": "id", "type": "string"}]})
    host = MemoryHost()
    command = call({"id": 17}, schema=schema)
    notify(host, lambda step: step.run(command), lambda step: step.compensate(command), key="id")
    assert host.compacted("records") == {}


def test_without_a_record_nothing_was_published_under_a_business_key() -> None:
    """The compensation then has nothing to do, and says nothing."""
    host = MemoryHost()
    notify(host, lambda step: step.compensate(call(record={})), key="sku")
    assert host.records("records") == []


def test_a_record_without_its_business_key_fails() -> None:
    """The error says which field, and what to do."""
    with pytest.raises(StepFailed, match="no sku.*make it required in parse"):
        notify(MemoryHost(), lambda step: step.run(call({**RECORD, "sku": None})), key="sku")


def test_a_record_that_does_not_fit_is_not_published() -> None:
    """A field that a later step spoiled is named."""
    host = MemoryHost()
    with pytest.raises(StepFailed, match="confidence: 'high' is not a number"):
        notify(host, lambda step: step.run(call({**RECORD, "confidence": "high"})))
    assert host.records("records") == []


def test_a_record_that_is_too_large_fails_for_good() -> None:
    """The topic's limit is no reason to try again."""
    host = MemoryHost()
    with pytest.raises(StepFailed, match=r"a record of \d+ bytes for scrape\.records; its limit is \d+ bytes"):
        notify(host, lambda step: step.run(call({**RECORD, "description": "x" * 10_500_000})))
    assert host.records("records") == []


def test_lint_knows_the_fields_that_can_be_keys() -> None:
    """A key that the record does not have is refused with those that it has."""
    Notify.check_record(NotifyParams(), PRODUCT)
    Notify.check_record(NotifyParams(key="sku"), PRODUCT)
    for key in ("skew", "price"):
        with pytest.raises(PipelineError, match=f"{key}.*sku"):
            Notify.check_record(NotifyParams(key=key), PRODUCT)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry on loopback."""
    with Registry() as server:
        yield server


def registered(registry: Registry, **settings: str) -> MemoryHost:
    """A host whose worker has the registry set."""
    return MemoryHost(settings={"SCHEMA_REGISTRY_URL": registry.url, **settings})


def test_with_a_registry_confluents_own_reader_reads_the_record(registry: Registry) -> None:
    """The wire format is Confluent's: an AvroDeserializer gets the values back by the id alone."""
    host = registered(registry)
    notify(host, lambda step: step.run(call()))
    (record,) = host.records("records")
    assert record.value is not None
    assert record.value[:5] == b"\x00\x00\x00\x00\x29"
    assert record.headers["content-type"] == b"application/avro;encoding=confluent"
    read = AvroDeserializer(SchemaRegistryClient({"url": registry.url}))
    values = read(record.value, SerializationContext("scrape.records", MessageField.VALUE))
    assert values == PRODUCT.conform(RECORD)


def test_a_schema_is_registered_once_under_its_full_name(registry: Registry) -> None:
    """The second record asks nobody; another worker finds the schema and registers nothing."""
    host = registered(registry)
    notify(host, lambda step: step.run(call()), lambda step: step.run(call()))
    notify(host.sibling(), lambda step: step.run(call()))
    assert registry.requests == [
        ("lookup", PRODUCT.name),
        ("register", PRODUCT.name),
        ("lookup", PRODUCT.name),
    ]
    assert len({record.value for record in host.records("records")}) == 1


def test_the_registry_learns_who_asks(registry: Registry) -> None:
    """User and password go along where they are set."""
    host = registered(registry, SCHEMA_REGISTRY_USER="u", SCHEMA_REGISTRY_PASSWORD="p:w")
    notify(host, lambda step: step.run(call()))
    assert registry.authorization == f"Basic {base64.b64encode(b'u:p:w').decode()}"


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((409, 409, "incompatible with an earlier schema"), StepFailed),
        ((422, 42201, "invalid schema"), StepFailed),
        ((401, 401, "unauthorized"), RetryLater),
        ((503, 50301, "no leader"), RetryLater),
    ],
)
def test_a_registrys_refusal_is_told(registry: Registry, refusal: tuple[int, int, str], error: type[Exception]) -> None:
    """A schema that it will never take fails the saga; what an operator can mend is tried again."""
    registry.refuses = refusal
    host = registered(registry)
    with pytest.raises(error, match=refusal[2]):
        notify(host, lambda step: step.run(call()))
    assert host.records("records") == []


def test_a_registry_that_does_not_answer_is_tried_again(registry: Registry) -> None:
    """Nothing is published; the error names the registry."""
    host = registered(registry)
    registry.stop()
    with pytest.raises(RetryLater, match=f"{registry.url} does not answer"):
        notify(host, lambda step: step.run(call()))


def test_an_address_that_is_none_stops_the_worker() -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match="SCRAPESAGA_SCHEMA_REGISTRY_URL"):
        notify(MemoryHost(settings={"SCHEMA_REGISTRY_URL": "registry:8081"}))


def test_a_registry_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker stops at its start with the command to run."""
    importing = builtins.__import__

    def without_extra(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("confluent_kafka.schema_registry"):
            raise ModuleNotFoundError("No module named 'attrs'")
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_extra)
    with pytest.raises(ConfigurationError, match=r"pip install 'scrapesaga\[registry\]'"):
        notify(MemoryHost(settings={"SCHEMA_REGISTRY_URL": "http://registry:8081"}))
