"""The producer without a broker: where keys go, and what is refused before anything is sent."""

from __future__ import annotations

from datetime import timedelta

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from processors.errors import DeliveryFailed
from processors.kafka.partitioner import murmur2, partition_for
from processors.kafka.producer import Outgoing, Producer, RecordTooLarge


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # The vectors of Kafka's own UtilsTest.testMurmur2.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_java_client(key: bytes, hashed: int) -> None:
    """Keys hash as in org.apache.kafka.common.utils.Utils.murmur2."""
    assert murmur2(key) == hashed & 0xFFFFFFFF


@given(st.binary(max_size=80), st.integers(1, 300))
def test_a_key_goes_where_aiokafka_sends_it(key: bytes, partitions: int) -> None:
    """Any key, any length: the same partition as Kafka's default partitioner."""
    assert partition_for(key, partitions) == DefaultPartitioner()(key, list(range(partitions)), [])


async def test_sending_nothing_is_done_at_once() -> None:
    """An empty call needs no broker."""
    assert await Producer("127.0.0.1:9").send([]) == []


async def test_a_record_over_the_limit_is_refused_by_name() -> None:
    """The error names topic, partition, key, size and limit; headers count too."""
    producer = Producer("127.0.0.1:9", max_record_bytes=1_000)
    with pytest.raises(
        RecordTooLarge, match=r"1\d{3} bytes for pages-3 \(key b'k'\) exceeds the topic's limit of 1000"
    ):
        await producer.send([Outgoing("pages", 3, b"k", b"x" * 1_000)])
    with pytest.raises(RecordTooLarge):
        await producer.send([Outgoing("pages", 3, b"k", None, (("h", b"x" * 1_000),))])


async def test_a_producer_that_is_not_started_says_so() -> None:
    """Forgetting start() is told, not waited for."""
    with pytest.raises(DeliveryFailed, match="not started"):
        await Producer("127.0.0.1:9").send([Outgoing("t", 0, b"k", b"v")])


async def test_kafka_out_of_reach_is_told_at_the_start() -> None:
    """start() names the servers that were tried."""
    with pytest.raises(DeliveryFailed, match=r"Kafka at 127\.0\.0\.1:9 can't be reached"):
        await Producer("127.0.0.1:9", within=timedelta(seconds=1)).start()
