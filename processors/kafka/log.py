"""Kafka as steps use it: a log that every worker reads in the same order, and records redeemed by claim check."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from processors.errors import RetryLater
from processors.kafka.claim_check import redeemed
from processors.kafka.closing import close_consumer
from processors.kafka.producer import Outgoing
from processors.step import Address

# A claim check is redeemed from a broker that answers in milliseconds; longer means that it is away.
READ_TIMEOUT = timedelta(seconds=20)


class Appender(Protocol):
    """What sends records."""

    async def send(self, items: list[Outgoing]) -> list[int]:
        """Send records; return their offsets."""
        ...


def _consumer(bootstrap_servers: str, security: Mapping[str, Any], max_bytes: int) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=max_bytes,
        # A reader that waits at the end of a log is told at once when something is appended.
        fetch_max_wait_ms=500,
        **security,
    )


class KafkaLog:
    """The Log of a single-partition topic."""

    def __init__(self, topic: str, producer: Appender, bootstrap_servers: str, security: Mapping[str, Any]) -> None:
        self._place = TopicPartition(topic, 0)
        self._producer = producer
        self._connect = lambda: _consumer(bootstrap_servers, security, 1024 * 1024)
        self._consumer: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Append an entry; return its offset once Kafka has acknowledged it."""
        return (await self._producer.send([Outgoing(self._place.topic, 0, key, value)]))[0]

    async def catch_up(self, to_offset: int | None = None) -> list[tuple[int, bytes, bytes | None]]:
        """Return the entries not returned yet, through `to_offset` or through the current end."""
        async with self._reading:
            consumer = self._consumer or await self._open()
            if to_offset is None:
                to_offset = (await consumer.end_offsets([self._place]))[self._place] - 1
            start = await consumer.position(self._place)
            try:
                return await self._read(consumer, to_offset)
            except BaseException:
                # All or nothing: what was read and not returned would be missing from every sum made of this log.
                consumer.seek(self._place, start)
                raise

    async def _read(self, consumer: AIOKafkaConsumer, to_offset: int) -> list[tuple[int, bytes, bytes | None]]:
        entries: list[tuple[int, bytes, bytes | None]] = []
        # The position passes what compaction removed, so it says when the end is reached; an offset might not be there.
        while await consumer.position(self._place) <= to_offset:
            fetched = await consumer.getmany(self._place, timeout_ms=1_000)
            for record in fetched.get(self._place, ()):
                entries.append((record.offset, record.key or b"", record.value))
        return entries

    async def _open(self) -> AIOKafkaConsumer:
        consumer = self._connect()  # type: ignore[no-untyped-call]  # aiokafka leaves it untyped
        await consumer.start()
        consumer.assign([self._place])
        await consumer.seek_to_beginning(self._place)
        self._consumer = consumer
        return consumer

    async def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await close_consumer(consumer)


class PageReader:
    """Redeems claim checks: one record, checked by key, offset, size and sha256."""

    def __init__(self, bootstrap_servers: str, security: Mapping[str, Any]) -> None:
        # One record at a time: a fetch that brings megabytes of neighbours would be thrown away.
        self._connect = lambda: _consumer(bootstrap_servers, security, 512 * 1024)
        self._consumer: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value at an address. Raises RecordGone, or RetryLater while Kafka is away."""
        place = TopicPartition(address.topic, address.partition)
        async with self._reading:
            try:
                async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                    record = await self._fetch(place, address.offset)
            except (TimeoutError, KafkaError) as error:
                await self.close()
                raise RetryLater(
                    f"can't read {address.topic}-{address.partition}@{address.offset}: {error!r}"
                ) from error
        if record is None:
            return redeemed(address, key, -1, None, None)
        return redeemed(address, key, record.offset, record.key, record.value)

    async def _fetch(self, place: TopicPartition, offset: int) -> Any:
        consumer = self._consumer
        if consumer is None:
            consumer = self._connect()  # type: ignore[no-untyped-call]  # as above
            await consumer.start()
            self._consumer = consumer
        if place not in consumer.assignment():
            consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        if not begin <= offset < end:
            return None
        consumer.seek(place, offset)
        return await consumer.getone(place)

    async def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await close_consumer(consumer)
