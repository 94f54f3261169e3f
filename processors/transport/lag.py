"""The lag of an app: for each partition that it owns, the unfinished records up to the end of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import faust
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.types import TP

from processors.transport.consumer import FastConsumer

# A scrape waits no longer for a broker that is down; then it uses the end from the last fetch.
_ASK_WITHIN_S = 2.0


async def lag_of(app: faust.App) -> dict[tuple[str, int], int]:
    """Return the lag of each partition by (topic, number), now; empty while the app owns none or isn't connected.

    A record counts until it is acknowledged, in work or not; a transaction's marker, an aborted record, and what lies behind
    a transaction that is still open don't. The end is asked of the broker: what the last fetch told of
    it is old when most needed, while back-pressure keeps the partition from being fetched. Changelogs are left out.
    """
    consumer = cast("FastConsumer | None", app._consumer)
    if consumer is None or consumer._kafka is None:
        return {}
    changelogs = app.tables.changelog_topics
    owned = [tp for tp in consumer.assignment() if tp.topic not in changelogs]
    ends = await _ends(consumer, owned)
    if consumer._kafka is None:
        return {}
    found = {}
    # Leave out partitions that a rebalance has revoked meanwhile.
    for tp in consumer.assignment().intersection(owned):
        undone = _first_undone(consumer, tp)
        if undone is not None:
            end = max(ends.get(tp, 0), consumer.stable_end(tp))
            found[tp.topic, tp.partition] = max(0, end - undone)
    return found


def _first_undone(consumer: FastConsumer, tp: TP) -> int | None:
    tracker = consumer._trackers.get(tp)
    if tracker is not None:
        offset = tracker.committable
        if offset is None:
            offset = tracker.committed
        if offset is not None:
            return offset
    # No record was handed out since the assignment: the position is the start offset from the broker.
    return consumer.position_now(tp)


async def _ends(consumer: FastConsumer, owned: list[TP]) -> Mapping[TP, int]:
    if not owned:
        return {}
    try:
        return await asyncio.wait_for(consumer.highwaters(*owned), _ASK_WITHIN_S)
    except (KafkaError, ConsumerStoppedError, TimeoutError):
        return {}
