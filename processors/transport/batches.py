"""What an agent iterates, whichever transport feeds it.

@app.agent(topic)
async def coordinate(stream):
    async for batch in batches(stream):
        ...
        batch.done()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, cast

from faust.streams import Stream
from faust.types import EventT, StreamT, TopicT

from processors.errors import ConfigurationError
from processors.kafka.record import Batch, Part, Record
from processors.transport.consumer import FastConsumer

# A batch is one turn of an agent: enough to spread the cost of a send and a commit, a few tens of milliseconds of work.
MAX_RECORDS = 2_000
_TURNS = 3


async def batches(stream: StreamT[Any], max_records: int = MAX_RECORDS) -> AsyncIterator[Batch]:
    """Yield batches of what is at hand, at least one record, without ever waiting for more.

    Ends when the app stops. Nothing is acknowledged but by the batch's done() and done_one().
    """
    consumer = stream.app.consumer
    if isinstance(consumer, FastConsumer):
        async for batch in consumer.record_queue(_only_topic(stream)).batches(max_records):
            yield batch
    else:
        async for batch in _faust_batches(stream, max_records):
            yield batch


def _only_topic(stream: StreamT[Any]) -> str:
    topics = cast(TopicT, stream.channel).topics
    if len(topics) != 1:
        raise ConfigurationError(
            f"An agent of the fast transport reads one topic, not {topics!r}: declare one agent for each."
        )
    return topics[0]


async def _faust_batches(stream: StreamT[Any], max_records: int) -> AsyncIterator[Batch]:
    """The same over Faust's own stream: takes what comes without waiting, and acknowledges events by hand."""
    events = aiter(cast(AsyncIterable[EventT[Any]], cast(Stream[Any], stream).noack().events()))

    async def following() -> EventT[Any] | None:
        return await anext(events, None)

    # Always asked for ahead. Waiting for an event with others in hand would wait for ever at a stop or a rebalance,
    # when Faust clears its queue and waits for those.
    ahead = asyncio.ensure_future(following())
    try:
        while (event := await ahead) is not None:
            found = [event]
            ahead = asyncio.ensure_future(following())
            while len(found) < max_records and await _is_there(ahead) and (event := ahead.result()) is not None:
                found.append(event)
                ahead = asyncio.ensure_future(following())
            yield _batch_of(found)
    finally:
        ahead.cancel()


async def _is_there(ahead: asyncio.Future[Any]) -> bool:
    """Whether Faust has the next event ready; it takes a few turns of the loop to hand over one that lies in its queue."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
        if ahead.done():
            return True
    return False


def _batch_of(events: Sequence[EventT[Any]]) -> Batch:
    by_partition: dict[int, dict[int, EventT[Any]]] = {}
    for event in events:
        by_partition.setdefault(event.message.partition, {})[event.message.offset] = event
    parts = [Part(partition, _Events(found), list(found)) for partition, found in by_partition.items()]
    return Batch([_record(event) for event in events], parts)


def _record(event: EventT[Any]) -> Record:
    message = event.message
    return Record(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        tuple(cast(Sequence[tuple[str, bytes]], message.headers or ())),
    )


class _Events:
    """The offsets of one partition's share of a batch of Faust's events."""

    def __init__(self, events: dict[int, EventT[Any]]) -> None:
        self._events = events
        self._app = next(iter(events.values())).app
        self._generation = self._app.consumer_generation_id

    @property
    def owned(self) -> bool:
        return self._app.consumer_generation_id == self._generation

    def inherited(self, offset: int) -> bool:
        # Faust doesn't tell where the partition ended when it was assigned, so nobody vouches for anything.
        return True

    def done(self, offset: int) -> None:
        event = self._events.pop(offset, None)
        # Faust would take an acknowledgement of an earlier assignment for one of the present.
        if event is not None and self.owned:
            event.ack()

    def done_run(self, offsets: Sequence[int]) -> None:
        for offset in offsets:
            self.done(offset)
