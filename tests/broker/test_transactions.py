"""Requests of a transactional producer: what it took back is nobody's, and its markers leave no lag behind."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from processors.cli.app import app
from processors.kafka.log import KafkaLog
from processors.kafka.producer import Producer as EngineProducer
from processors.kafka.reader import Reader
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.messages.wire import encode_event
from processors.process.apps import group_of
from processors.saga.events import Cancelled
from tests.broker.observed_world import Engine, until
from tests.broker.transport_world import World

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

# (key, value, partition)
Record = tuple[bytes, bytes, int]


def transactional(servers: str) -> Producer:
    """Return a producer with an identity of its own, ready for transactions."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": uuid.uuid4().hex, "log_level": 0})
    producer.init_transactions(60)
    return producer


def transact(producer: Producer, topic: str, records: Iterable[Record], *, commit: bool) -> None:
    """Write records in one transaction."""
    producer.begin_transaction()
    for key, value, partition in records:
        producer.produce(topic, value, key, partition)
    # An aborted record has to lie on the topic, or nothing is shown.
    producer.flush(30)
    if commit:
        producer.commit_transaction(60)
    else:
        producer.abort_transaction(60)


@pytest.fixture
def world(kafka_servers: str) -> Iterator[World]:
    """A topic of one partition: two committed records, two aborted ones, a committed one, and aborted ones last."""
    with World(kafka_servers) as made:
        made.create(1)
        producer = transactional(kafka_servers)
        transact(producer, made.source, [(b"a", b"1", 0), (b"b", b"2", 0)], commit=True)
        transact(producer, made.source, [(b"a", b"lost", 0), (b"c", b"lost", 0)], commit=False)
        transact(producer, made.source, [(b"a", b"3", 0)], commit=True)
        transact(producer, made.source, [(b"a", b"lost", 0)], commit=False)
        yield made


# Three records, three aborted ones, and a marker behind each of the four transactions.
END = 10
COMMITTED = [(0, b"1"), (1, b"2"), (6, b"3")]


def test_readers_see_what_was_committed(world: World) -> None:
    """From the beginning, from the end, of one key, at an offset, from a time on and on the tail: never an aborted record."""
    reader = Reader({"bootstrap.servers": world.bootstrap})
    place = world.source, 0
    assert reader.bounds([place])[place] == (0, END)
    read = [(one.offset, one.value) for one in reader.records(world.source)]
    assert read == COMMITTED
    assert [(one.offset, one.value) for chunk in reader.backwards(place) for one in chunk] == COMMITTED
    assert [one.value for one in reader.records(world.source, key=b"a")] == [b"1", b"3"]
    assert [reader.one(place, offset) is not None for offset in range(END)] == [
        offset in dict(COMMITTED) for offset in range(END)
    ]
    assert list(reader.records(world.source, since_ms=int(time.time() * 1000) + 60_000)) == []
    tail = reader.tail({place: 0})
    assert [one.offset for records in tail.read_to({place: END}) for one in records] == [0, 1, 6]
    assert (tail.positions[place], tail.lag(), tail.end(*place)) == (END, 0, END)
    tail.close()
    reader.close()


async def test_a_log_of_steps_ends_behind_a_marker(world: World) -> None:
    """The ledger is read to an end that holds no record, and doesn't wait for one."""
    async with EngineProducer(world.bootstrap) as producer:
        log = KafkaLog(world.source, producer, {"bootstrap.servers": world.bootstrap})
        assert [(offset, value) for offset, _, value in await log.catch_up()] == COMMITTED
        offset = await log.append(b"d", b"4")
        assert await log.catch_up(offset) == [(END, b"d", b"4")]
        await log.close()


def test_an_open_transaction_holds_back_what_lies_behind_it(world: World) -> None:
    """Nobody reads past it; once it ends, everybody sees the same."""
    reader = Reader({"bootstrap.servers": world.bootstrap})
    place = world.source, 0
    producer = transactional(world.bootstrap)
    producer.begin_transaction()
    producer.produce(world.source, b"late", b"a", 0)
    producer.flush(30)
    plain = Producer({"bootstrap.servers": world.bootstrap})
    plain.produce(world.source, b"behind", b"a", 0)
    plain.flush(30)
    assert reader.bounds([place])[place].end == END
    assert [one.value for one in reader.records(world.source)] == [b"1", b"2", b"3"]
    producer.abort_transaction(60)
    assert [one.value for one in reader.records(world.source)] == [b"1", b"2", b"3", b"behind"]


# --- the engine -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(kafka_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose requests come from a transactional producer."""
    folder = tmp_path_factory.mktemp("transactions")
    with Engine(kafka_servers, folder, f"tx{uuid.uuid4().hex[:8]}") as running:
        yield running


def request(job: str, partition: int) -> Record:
    asked = ScrapeRequest(f"https://shop.test/{job}", pipeline="default", job_id=job, label="transactions")
    return b"", encode_request(asked), partition


def behind(engine: Engine, role: str, topic: str) -> list[int]:
    """Return how far the role's group has committed behind the end of each partition: what a scaler sees."""
    consumer = Consumer(
        {"bootstrap.servers": engine.env["SCRAPESAGA_BOOTSTRAP_SERVERS"], "group.id": group_of(engine.settings, role)}
    )
    places = [TopicPartition(topic, number) for number in range(2)]
    try:
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        return [end - one.offset for end, one in zip(ends, consumer.committed(places, timeout=10), strict=True)]
    finally:
        consumer.close()


def run(engine: Engine, *arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env=engine.env)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_replay_audit_and_engine_see_the_same_requests(engine: Engine) -> None:
    """Committed requests become jobs, aborted ones never do; replay shows the former; the audit misses none; lag is 0."""
    urls, events = f"{engine.settings.topic_prefix}.urls", f"{engine.settings.topic_prefix}.events"
    producer = transactional(engine.env["SCRAPESAGA_BOOTSTRAP_SERVERS"])
    kept = [f"kept-{number}" for number in range(6)]
    transact(producer, urls, [request(job, n % 2) for n, job in enumerate(kept[:4])], commit=True)
    transact(producer, urls, [request(f"aborted-{n}", n % 2) for n in range(4)], commit=False)
    transact(producer, urls, [request(job, 0) for job in kept[4:]], commit=True)
    # What lies last is a marker; on the second partition, only aborted records lie before it.
    transact(producer, urls, [request("aborted-4", 1)], commit=False)
    until(lambda: all(engine.states().get(job, {}).get("phase") == "COMPLETED" for job in kept), "the committed jobs")
    # An operator's own tool writes events in transactions, too: the coordinator and the audit step over its markers.
    number = engine.partition(kept[0])
    cancel = encode_event(Cancelled(kept[0], "a tool", "too late"))
    transact(producer, events, [(kept[0].encode(), cancel, number)], commit=True)
    transact(producer, events, [(kept[0].encode(), cancel, number)], commit=False)

    until(lambda: behind(engine, "intake", urls) == [0, 0], "intake's group at the ends")
    until(lambda: behind(engine, "coordinator", events) == [0, 0], "the coordinator's group at the ends")
    for number in range(2):
        assert engine.worker.value("scrapesaga_consumer_lag", topic=urls, partition=str(number)) == 0
        assert engine.coordinator.value("scrapesaga_consumer_lag", topic=events, partition=str(number)) == 0

    assert set(engine.states()) == set(kept)
    replayed = [
        json.loads(line) for line in run(engine, "replay", "--from", "0", "--topic", "urls", "--json").splitlines()
    ]
    assert sorted(one["value"]["job_id"] for one in replayed) == kept
    told = json.loads(run(engine, "audit", "--follow", "--to-end", "--json"))
    assert (told["broken"], told["states"]["waiting"], told["states"]["completed"], told["lag"]) == ({}, 0, 6, 0)
    assert json.loads(run(engine, "audit", "verify", "--json"))["divergences"] == 0
