"""Logs and pages while the broker is away: closing is quiet, whatever aiokafka was doing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from processors.kafka.log import KafkaLog, PageReader
from processors.kafka.producer import Outgoing, Producer
from processors.local.kafka import EmbeddedKafka
from processors.step import Address
from tests.broker.transport_world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


async def test_readers_close_while_the_broker_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that stops because Kafka is gone ends in order, without a traceback of a client that it closes."""
    with EmbeddedKafka(tmp_path, login=False) as broker, World(broker.bootstrap_servers) as world:
        world.create(1)
        async with Producer(world.bootstrap) as producer:
            await producer.send([Outgoing(world.source, 0, b"k", b"v")])
            log = KafkaLog(world.source, producer, world.bootstrap, {})
            pages = PageReader(world.bootstrap, {})
            assert await log.catch_up() == [(0, b"k", b"v")]
            digest = "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080"
            assert await pages.read(Address(world.source, 0, 0, digest, 1), b"k") == b"v"
            broker.kill()
            # The clients notice by themselves, and try again all the time.
            give_up = time.monotonic() + 60
            while sum("Failed fetch" in record.message for record in caplog.records) < 3:
                assert time.monotonic() < give_up
                await asyncio.sleep(0.01)
            await log.close()
            await pages.close()
