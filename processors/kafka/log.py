"""Kafka as steps use it: a log that every worker reads in the same order, and records redeemed by claim check."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from confluent_kafka import KafkaException

from processors.errors import RetryLater
from processors.kafka.claim_check import redeemed
from processors.kafka.producer import Outgoing
from processors.kafka.reader import Reader, ReadFailed, Tail
from processors.kafka.record import Record
from processors.kafka.threaded import in_thread
from processors.step import Address

# A claim check is redeemed from a broker that answers in milliseconds; longer means that it is away.
READ_TIMEOUT = timedelta(seconds=20)

# One record at a time: a fetch that brings megabytes of neighbours would be thrown away.
_PAGE_FETCH: Mapping[str, str | int] = {
    "fetch.message.max.bytes": 512 * 1024,
    "fetch.max.bytes": 16 * 1024 * 1024,
    "queued.min.messages": 1,
    "queued.max.messages.kbytes": 1024,
}

Entry = tuple[int, bytes, bytes | None]


class Appender(Protocol):
    """What sends records."""

    async def send(self, items: list[Outgoing]) -> list[int]:
        """Send records; return their offsets."""
        ...


class KafkaLog:
    """The Log of a single-partition topic."""

    def __init__(self, topic: str, producer: Appender, client: Mapping[str, str]) -> None:
        self._place = topic, 0
        self._producer = producer
        self._reader = Reader(client)
        self._tail: Tail | None = None
        self._reading = asyncio.Lock()
        # Read, and not returned yet.
        self._entries: list[Entry] = []

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Append an entry; return its offset once Kafka has acknowledged it."""
        return (await self._producer.send([Outgoing(*self._place, key, value)]))[0]

    async def catch_up(self, to_offset: int | None = None) -> list[Entry]:
        """Return the entries not returned yet, through `to_offset` or through the current end.

        All or nothing: what was read while this was cancelled, or failed, is returned by the next call, as it would be
        missing from every sum made of this log. Raises KafkaException, ReadFailed while Kafka is away.
        """
        async with self._reading:
            await in_thread(lambda: self._read(to_offset), self._reader.stopped)
            entries, self._entries = self._entries, []
            return entries

    def _read(self, to_offset: int | None) -> None:
        tail = self._tail
        if tail is None:
            tail = self._tail = self._reader.tail(self._reader.starts([self._place], 0))
        end = tail.end(*self._place) if to_offset is None else to_offset + 1
        for records in tail.read_to({self._place: end}):
            self._entries += [(record.offset, record.key or b"", record.value) for record in records]

    async def close(self) -> None:
        """Close the connections."""
        async with self._reading:
            tail, self._tail = self._tail, None
            if tail is not None:
                await asyncio.to_thread(tail.close)
            await asyncio.to_thread(self._reader.close)


class PageReader:
    """Redeems claim checks: one record, checked by key, offset, size and sha256."""

    def __init__(self, client: Mapping[str, str]) -> None:
        self._reader = Reader({**client, **_PAGE_FETCH}, silence_s=READ_TIMEOUT.total_seconds())
        self._reading = asyncio.Lock()

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value at an address. Raises RecordGone, or RetryLater while Kafka is away."""
        where = f"{address.topic}-{address.partition}@{address.offset}"
        async with self._reading:
            try:
                async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                    record = await in_thread(lambda: self._fetch(address), self._reader.stopped)
            except (TimeoutError, KafkaException, ReadFailed) as error:
                where = f"{address.topic}-{address.partition}@{address.offset}"
                raise RetryLater(f"can't read {where}: {error!r}") from error
        if record is None:
            return redeemed(address, key, -1, None, None)
        return redeemed(address, key, record.offset, record.key, record.value)

    def _fetch(self, address: Address) -> Record | None:
        return self._reader.one((address.topic, address.partition), address.offset)

    async def close(self) -> None:
        """Close the connection."""
        async with self._reading:
            await asyncio.to_thread(self._reader.close)
