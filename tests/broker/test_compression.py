"""Clients choose their compression: what is submitted is read whichever way it was compressed."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

pytestmark = pytest.mark.broker


async def first_value(servers: str, topic: str) -> bytes:
    """Read one record as the engine's consumers do."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return bytes((await consumer.getone()).value)
    finally:
        await consumer.stop()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_a_record_is_read_however_its_client_compressed_it(kafka_servers: str, codec: str) -> None:
    """A batch in any of Kafka's codecs comes out as it went in."""
    client: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka_servers}
    topic = f"compressed-{codec}-{uuid4().hex[:8]}"
    # Named, as its requests end with it.
    admin = AdminClient(client)
    for created in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        created.result(10)
    value = b"https://shop.example/p/1 " * 100
    producer = Producer({**client, "compression.type": codec})
    producer.produce(topic, value)
    assert producer.flush(10) == 0
    assert await first_value(kafka_servers, topic) == value
