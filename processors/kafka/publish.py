"""What the coordinator, intake and steps need of a producer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from processors.errors import StepFailed
from processors.kafka.producer import Outgoing, partition_for
from processors.step import Address
from topics.catalogue import Topic

# Room for a record's headers below its topic's limit.
HEADER_ROOM_BYTES = 4_096


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
    headers: tuple[tuple[str, bytes], ...],
) -> Address:
    """Append a step's record, where Kafka's partitioner puts its key if no partition is given.

    Raises StepFailed for a record over the topic's limit, DeliveryFailed.
    """
    size = len(value or b"")
    limit = topic.max_message_bytes - HEADER_ROOM_BYTES
    if size + len(key) > limit:
        raise StepFailed(f"a record of {size} bytes for {topic.name}; its limit is {limit} bytes")
    if partition is None:
        partition = partition_for(key, topic.partitions)
    offset = (await sender.send([Outgoing(topic.name, partition, key, value, headers)]))[0]
    return Address(topic.name, partition, offset, hashlib.sha256(value or b"").hexdigest(), size)
