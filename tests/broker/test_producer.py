"""The producer against a real broker: order, offsets, and no acknowledgement that isn't true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from processors.errors import DeliveryFailed
from processors.kafka.producer import Outgoing, Producer, RecordTooLarge
from processors.local.kafka import EmbeddedKafka
from tests.broker.transport_world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]


@pytest.fixture
def world(kafka_servers: str) -> Iterator[World]:
    with World(kafka_servers) as made:
        yield made


def values(bootstrap: str, topic: str, partition: int) -> list[bytes | None]:
    """All values of a partition; the index is the offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)[1]
        consumer.assign([TopicPartition(topic, partition, 0)])
        found: list[bytes | None] = []
        while len(found) < end:
            found += [message.value() for message in consumer.consume(end - len(found), timeout=5)]
        return found
    finally:
        consumer.close()


async def test_offsets_come_back_in_the_order_of_the_items(world: World) -> None:
    """Each record's offset is where it can be read, over interleaved topics and partitions."""
    world.create(3)
    items = [
        Outgoing((world.source, world.sink)[i % 2], i % 3, b"k", str(i).encode(), (("n", b"1"),)) for i in range(2_000)
    ]
    async with Producer(world.bootstrap) as producer:
        offsets = await producer.send(items)
    for topic in (world.source, world.sink):
        for partition in range(3):
            expected = {
                o: i.value for i, o in zip(items, offsets, strict=True) if (i.topic, i.partition) == (topic, partition)
            }
            assert dict(enumerate(values(world.bootstrap, topic, partition))) == expected


async def test_calls_at_the_same_time_keep_their_order_in_each_partition(world: World) -> None:
    """Of a hundred concurrent calls, the later never overtakes the earlier."""
    world.create(2)
    async with Producer(world.bootstrap) as producer:
        calls = [
            [Outgoing(world.sink, p, b"k", f"{call}:{i}".encode()) for i in range(3) for p in range(2)]
            for call in range(100)
        ]
        results = await asyncio.gather(*(producer.send(items) for items in calls))
    flat = [offset for offsets in results for offset in offsets[0::2]]
    assert flat == list(range(300))
    assert values(world.bootstrap, world.sink, 1) == [f"{call}:{i}".encode() for call in range(100) for i in range(3)]


async def test_load_and_quiet_may_alternate(world: World) -> None:
    """Reports are asked for by the loop under load and by a thread else; whoever takes over, none is lost or told twice."""
    world.create(2)
    async with Producer(world.bootstrap) as producer:
        told: list[int] = []
        for turn in range(100):
            burst = [Outgoing(world.sink, i % 2, b"k", f"{turn}:{i}".encode()) for i in range(120)]
            alone = Outgoing(world.sink, 0, b"k", f"{turn}:alone".encode())
            calls = (
                (producer.send([alone]), producer.send(burst), producer.send([alone]))
                if turn % 3
                else (producer.send([alone]),)
            )
            for offsets in await asyncio.wait_for(asyncio.gather(*calls), 30):
                told += [offsets[0], *offsets[2::2]]
        assert producer._reports is not None
        assert producer._reports.under_way == 0
    assert told == list(range(len(values(world.bootstrap, world.sink, 0))))


async def test_more_than_a_batch_is_split_in_order(world: World) -> None:
    """Three megabytes for one partition arrive whole and in order."""
    world.create(1)
    items = [Outgoing(world.sink, 0, b"k", i.to_bytes(4) + bytes(100_000)) for i in range(30)]
    async with Producer(world.bootstrap) as producer:
        assert await producer.send(items) == list(range(30))
    assert values(world.bootstrap, world.sink, 0) == [item.value for item in items]


async def test_a_record_larger_than_a_batch_is_sent_by_itself(world: World) -> None:
    """A page of several megabytes goes to a topic that takes it, tombstones too."""
    world.create(1, **{"max.message.bytes": "11000000"})
    page = bytes(9_000_000)
    async with Producer(world.bootstrap, max_record_bytes=10_000_000) as producer:
        sent = [
            Outgoing(world.sink, 0, b"k", b"1"),
            Outgoing(world.sink, 0, b"k", page),
            Outgoing(world.sink, 0, b"k", None),
        ]
        assert await producer.send(sent) == [0, 1, 2]
    assert values(world.bootstrap, world.sink, 0) == [b"1", page, None]


async def test_a_record_over_the_limit_stops_its_call_and_nothing_else(world: World) -> None:
    """Nothing of the call is sent, and the next call is."""
    world.create(1)
    async with Producer(world.bootstrap, max_record_bytes=5_000) as producer:
        with pytest.raises(RecordTooLarge):
            await producer.send([Outgoing(world.sink, 0, b"k", b"a"), Outgoing(world.sink, 0, b"k", bytes(6_000))])
        assert await producer.send([Outgoing(world.sink, 0, b"k", b"b")]) == [0]


async def test_a_refusal_by_the_broker_fails_the_call_and_the_producer(world: World) -> None:
    """A topic that takes less than the limit here: the error names topic, size and cause, and nothing follows it."""
    world.create(1, **{"max.message.bytes": "1000"})
    async with Producer(world.bootstrap) as producer:
        with pytest.raises(DeliveryFailed, match=rf"1 records \(5\d+ bytes\) for {world.sink}-0: MSG_SIZE_TOO_LARGE"):
            await producer.send([Outgoing(world.sink, 0, b"k", bytes(5_000))])
        with pytest.raises(DeliveryFailed, match="MSG_SIZE_TOO_LARGE"):
            await producer.send([Outgoing(world.sink, 0, b"k", b"small")])


async def test_partitions_and_topics_that_are_not_there_are_named(world: World) -> None:
    """A wrong partition, and a topic that was not provisioned."""
    world.create(2)
    async with Producer(world.bootstrap, within=timedelta(seconds=1)) as producer:
        assert await producer.partitions(world.sink) == 2
        with pytest.raises(DeliveryFailed, match=f"Topic {world.sink} has no partition 2"):
            await producer.send([Outgoing(world.sink, 2, b"k", b"v")])
        with pytest.raises(DeliveryFailed, match="Topic nowhere can't be written to.*Provision the topics"):
            await producer.send([Outgoing("nowhere", 0, b"k", b"v")])
        assert await producer.send([Outgoing(world.sink, 1, b"k", b"v")]) == [0]


async def test_a_broker_that_comes_back_in_time_gets_the_records_once(tmp_path: Path) -> None:
    """A restart of the broker is waited for; what was sent meanwhile arrives in order, without repeats."""
    with EmbeddedKafka(tmp_path, login=False) as broker:
        world = World(broker.bootstrap_servers)
        world.create(1)
        async with Producer(broker.bootstrap_servers) as producer:
            assert await producer.send([Outgoing(world.sink, 0, b"k", b"0")]) == [0]
            broker.stop()
            calls = [
                asyncio.ensure_future(producer.send([Outgoing(world.sink, 0, b"k", str(n).encode())])) for n in (1, 2)
            ]
            await asyncio.to_thread(broker.start)
            assert await asyncio.gather(*calls) == [[1], [2]]
        assert values(broker.bootstrap_servers, world.sink, 0) == [b"0", b"1", b"2"]


async def test_a_broker_that_is_gone_fails_the_delivery_within_the_bound(tmp_path: Path) -> None:
    """No acknowledgement, no success: the call raises, so do later ones, and the producer still closes."""
    with EmbeddedKafka(tmp_path, login=False) as broker:
        world = World(broker.bootstrap_servers)
        world.create(1)
        producer = Producer(broker.bootstrap_servers, within=timedelta(seconds=2))
        await producer.start()
        assert await producer.send([Outgoing(world.sink, 0, b"k", b"0")]) == [0]
        broker.kill()
        began = time.monotonic()
        with pytest.raises(DeliveryFailed, match=rf"1 records .* for {world.sink}-0: no answer within 2 s"):
            await producer.send([Outgoing(world.sink, 0, b"k", b"1")])
        assert time.monotonic() - began < 4
        with pytest.raises(DeliveryFailed, match="no answer"):
            await producer.send([Outgoing(world.sink, 0, b"k", b"2")])
        await producer.stop()
        assert time.monotonic() - began < 20


async def test_stopping_fails_calls_that_still_wait(tmp_path: Path) -> None:
    """A caller is told, not left hanging, when the producer is stopped over a broker that is gone."""
    with EmbeddedKafka(tmp_path, login=False) as broker:
        world = World(broker.bootstrap_servers)
        world.create(1)
        producer = Producer(broker.bootstrap_servers)
        await producer.start()
        await producer.send([Outgoing(world.sink, 0, b"k", b"0")])
        broker.kill()
        waiting = asyncio.ensure_future(producer.send([Outgoing(world.sink, 0, b"k", b"1")]))
        await asyncio.sleep(0)
        await producer.stop()
        with pytest.raises(DeliveryFailed):
            await waiting
