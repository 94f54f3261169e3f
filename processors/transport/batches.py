"""The batches that an agent iterates over.

@app.agent(topic)
async def coordinate(stream):
    async for batch in batches(stream):
        ...
        batch.done()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from faust.types import StreamT, TopicT

from processors.errors import ConfigurationError
from processors.kafka.record import Batch
from processors.transport.consumer import FastConsumer

# A batch is one turn of an agent: enough to spread the cost of a send and a commit, a few tens of milliseconds of work.
MAX_RECORDS = 2_000


async def batches(stream: StreamT[Any], max_records: int = MAX_RECORDS) -> AsyncIterator[Batch]:
    """Yield batches of the records that are there, at least one; never wait for more.

    Ends when the app stops. Nothing is acknowledged but by the batch's done() and done_one().
    """
    consumer = cast(FastConsumer, stream.app.consumer)
    async for batch in consumer.record_queue(_only_topic(stream)).batches(max_records):
        yield batch


def _only_topic(stream: StreamT[Any]) -> str:
    topics = cast(TopicT, stream.channel).topics
    if len(topics) != 1:
        raise ConfigurationError(f"An agent reads one topic, not {topics!r}: declare one agent for each.")
    return topics[0]
