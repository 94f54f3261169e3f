"""Looks at a run from outside: topics by a plain consumer, the warehouse by SQL, the API by its invoices."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import clickhouse_connect
import httpx
from confluent_kafka import Consumer, KafkaException, TopicPartition

from processors.wire import decode_saga_fields


def compacted(client: Mapping[str, str], topic: str) -> dict[bytes, bytes]:
    """Return the last value of every key of a topic, tombstones taken away: what a compacted view shows."""
    view: dict[bytes, bytes] = {}
    for key, value in records(client, topic):
        if value is None:
            view.pop(key, None)
        else:
            view[key] = value
    return view


def records(client: Mapping[str, str], topic: str) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield (key, value) of all records of a topic up to its present end, in order within each partition."""
    consumer = Consumer({**client, "group.id": "scrapesaga-outside", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends: dict[int, int] = {}
        starts = []
        for number in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            if high > low:
                ends[number] = high
                starts.append(TopicPartition(topic, number, low))
        consumer.assign(starts)
        give_up = time.monotonic() + 60
        while ends and time.monotonic() < give_up:
            for message in consumer.consume(1_000, timeout=0.2):
                if error := message.error():
                    raise KafkaException(error)
                yield message.key() or b"", message.value()
            places = consumer.position([TopicPartition(topic, number) for number in ends])
            ends = {place.partition: ends[place.partition] for place in places if place.offset < ends[place.partition]}
        if ends:
            raise TimeoutError(f"{topic} could not be read to its end within a minute")
    finally:
        consumer.close()


def saga_states(client: Mapping[str, str], topic: str) -> dict[str, dict[str, object]]:
    """Return the latest state of every job; a stale owner's late write (lower seq) doesn't count."""
    latest: dict[str, dict[str, object]] = {}
    for key, value in records(client, topic):
        job = key.decode()
        if value is None:
            latest.pop(job, None)
            continue
        state = decode_saga_fields(value)
        if job not in latest or int(str(latest[job]["seq"])) < state["seq"]:
            latest[job] = state
    return latest


def warehouse_jobs(url: str, view: str) -> frozenset[str]:
    """Return the job_ids that users see in a view; none before the first load has made it."""
    client = clickhouse_connect.get_client(dsn=url.replace("http://", "http://default@"))
    try:
        if not client.command(f"EXISTS TABLE {view}"):
            return frozenset()
        return frozenset(row[0] for row in client.query(f"SELECT job_id FROM {view}").result_rows)
    finally:
        client.close()


def invoices(api_url: str) -> tuple[Mapping[str, object], ...]:
    """Return the paid API's ledger."""
    answer = httpx.get(f"{api_url}/_invoices", timeout=10)
    answer.raise_for_status()
    return tuple(answer.json())
