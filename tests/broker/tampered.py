"""Copies an installation's topics under another prefix, byte for byte and to the millisecond, but for what a test changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from processors.kafka.reader import Reader
from processors.kafka.record import Record
from topics.catalogue import Catalogue

Topics = dict[str, list[Record]]


def read(reader: Reader, catalogue: Catalogue) -> Topics:
    """Return all records by their topic's short name."""
    return {topic.short_name: list(reader.records(topic.name)) for topic in catalogue if topic.short_name != "pages"}


def write(client: dict[str, str], catalogue: Catalogue, topics: Topics, prefix: str) -> Catalogue:
    """Write topics under a prefix, each record with its own timestamp; return their catalogue."""
    copied = replace(catalogue, prefix=prefix)
    made = [
        NewTopic(topic.name, topic.partitions, config={"message.timestamp.type": "CreateTime", "retention.ms": "-1"})
        for topic in copied
    ]
    # Kept until all is made: it takes its unfinished requests with it.
    admin = AdminClient({**client})
    for future in admin.create_topics(made).values():
        future.result(30)
    producer = Producer({**client, "acks": "all", "enable.idempotence": True, "message.max.bytes": 4_000_000})
    for name, records in topics.items():
        for record in in_order(records):
            producer.produce(
                copied.topic(name).name,
                record.value,
                record.key,
                record.partition,
                timestamp=record.timestamp_ms,
                headers=[(name, _moved(name, value, catalogue.prefix, prefix)) for name, value in record.headers],
            )
            producer.poll(0)
    assert producer.flush(60) == 0
    return copied


def _moved(name: str, value: bytes | None, before: str, after: str) -> bytes | None:
    """Return a header as it is in the copy: a dead letter names the topic that it lay on."""
    if name != "dead-letter-topic" or value is None:
        return value
    return after.encode() + value.removeprefix(before.encode())


def in_order(records: Iterable[Record]) -> list[Record]:
    """Return records in the order of each partition: added ones, without an offset, last."""
    return sorted(records, key=lambda one: (one.partition, one.offset if one.offset >= 0 else 2**62))


def added(like: Record, value: bytes | None, *, later_ms: int = 1) -> Record:
    """Return a record that is appended behind all others of its partition."""
    return like._replace(offset=-1, value=value, timestamp_ms=like.timestamp_ms + later_ms)
