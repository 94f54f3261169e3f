"""Logs and pages on a real broker: in order, whole or not at all, and closed quietly while the broker is away."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import timedelta
from pathlib import Path

import pytest

from processors.errors import RecordGone, RetryLater
from processors.kafka import log as kafka_log
from processors.kafka.log import KafkaLog, PageReader
from processors.kafka.producer import Outgoing, Producer
from processors.local.kafka import EmbeddedKafka
from processors.step import Address
from tests.broker.transport_world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


async def test_a_log_is_read_in_order_and_each_entry_once(kafka_servers: str) -> None:
    """Through an offset that was just appended, or through the end; tombstones are entries; nothing comes twice."""
    with World(kafka_servers) as world:
        world.create(1)
        async with Producer(world.bootstrap) as producer:
            log = KafkaLog(world.source, producer, {"bootstrap.servers": world.bootstrap})
            assert await log.catch_up() == []
            first = await log.append(b"a", b"1")
            second = await log.append(b"b", None)
            assert await log.catch_up(first) + await log.catch_up(second) == [(0, b"a", b"1"), (1, b"b", None)]
            began = time.monotonic()
            for number in range(50):
                offset = await log.append(b"k", b"%d" % number)
                assert (await log.catch_up(offset))[-1] == (offset, b"k", b"%d" % number)
            assert time.monotonic() - began < 5, "a paid call waits for this"
            await log.close()


async def test_what_a_cancelled_reader_has_read_comes_with_the_next_call(kafka_servers: str) -> None:
    """A step that runs out of time in the middle of a read takes no entry of the ledger with it."""
    with World(kafka_servers) as world:
        world.create(1)
        async with Producer(world.bootstrap) as producer:
            log = KafkaLog(world.source, producer, {"bootstrap.servers": world.bootstrap})
            await log.append(b"a", b"1")
            waiting = asyncio.ensure_future(log.catch_up(to_offset=1))
            await asyncio.sleep(0.5)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await log.append(b"b", b"2")
            assert await log.catch_up() == [(0, b"a", b"1"), (1, b"b", b"2")]
            await log.close()


async def test_a_claim_check_is_redeemed_or_said_to_be_gone(kafka_servers: str) -> None:
    """The record at the offset, if it is the one that was archived; beyond the end, or of another key, it is gone."""
    with World(kafka_servers) as world:
        world.create(1)
        async with Producer(world.bootstrap, max_record_bytes=3_000_000) as producer:
            pages = PageReader({"bootstrap.servers": world.bootstrap})
            values = [bytes([number]) * 700_000 for number in range(8)]
            offsets = await producer.send(
                [Outgoing(world.source, 0, b"%d" % n, value) for n, value in enumerate(values)]
            )
            for number in (5, 0, 7, 3):
                value = values[number]
                address = Address(world.source, 0, offsets[number], hashlib.sha256(value).hexdigest(), len(value))
                assert await pages.read(address, b"%d" % number) == value
                with pytest.raises(RecordGone, match="isn't what was archived"):
                    await pages.read(Address(world.source, 0, offsets[number], "0" * 64, len(value)), b"%d" % number)
                with pytest.raises(RecordGone, match="is gone"):
                    await pages.read(address, b"another")
            with pytest.raises(RecordGone, match="is gone"):
                await pages.read(Address(world.source, 0, 99, "", 1), b"k")
            await pages.close()


async def test_readers_close_while_the_broker_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops because Kafka is gone ends in order; a page that can't be read meanwhile is asked for later."""
    monkeypatch.setattr(kafka_log, "READ_TIMEOUT", timedelta(seconds=2))
    with EmbeddedKafka(tmp_path, login=False) as broker, World(broker.bootstrap_servers) as world:
        world.create(1)
        async with Producer(world.bootstrap) as producer:
            await producer.send([Outgoing(world.source, 0, b"k", b"v")])
            log = KafkaLog(world.source, producer, {"bootstrap.servers": world.bootstrap})
            pages = PageReader({"bootstrap.servers": world.bootstrap})
            assert await log.catch_up() == [(0, b"k", b"v")]
            digest = "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080"
            assert await pages.read(Address(world.source, 0, 0, digest, 1), b"k") == b"v"
            broker.kill()
            with pytest.raises(RetryLater, match="can't read"):
                await pages.read(Address(world.source, 0, 0, digest, 1), b"k")
            began = time.monotonic()
            await log.close()
            await pages.close()
            assert time.monotonic() - began < 5
