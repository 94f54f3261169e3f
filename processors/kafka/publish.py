"""What the coordinator, intake and steps need of a producer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from processors.errors import StepFailed
from processors.kafka.producer import Outgoing, partition_for
from processors.kafka.record import Headers
from processors.step import Address
from topics.catalogue import Topic


class Sender(Protocol):
    """Sends records, and says so only once Kafka has them."""

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Send records; return their offsets once Kafka has acknowledged them all. Raises DeliveryFailed."""
        ...


async def publish(
    sender: Sender,
    topic: Topic,
    partition: int | None,
    key: bytes,
    value: bytes | None,
    headers: Headers,
) -> Address:
    """Append a step's record, where Kafka's partitioner puts its key if no partition is given.

    Raises StepFailed for a record over the topic's limit, DeliveryFailed.
    """
    if partition is None:
        partition = partition_for(key, topic.partitions)
    record = Outgoing(topic.name, partition, key, value, headers)
    if record.size_bytes > topic.max_record_bytes:
        raise StepFailed(
            f"a record of {record.size_bytes} bytes for {topic.name}; its limit is {topic.max_record_bytes} bytes"
        )
    offset = (await sender.send([record]))[0]
    return Address(topic.name, partition, offset, hashlib.sha256(value or b"").hexdigest(), len(value or b""))
