"""The engine as its operators reach it: settings, topics, and connections to Kafka that are shared by what is asked.

The clients block, and so do the functions that use them. They run in threads, here and nowhere else: an operation hands a
function to Engine.run() or Engine.stream(), which gives it a Session of its own. A caller that is cancelled stops its read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Self, TypeVar

from processors.kafka.credentials import kafka_client
from processors.kafka.reader import Reader
from processors.kafka.sync_producer import SyncProducer
from processors.kafka.threaded import in_thread
from processors.settings.settings import Settings
from topics.catalogue import Catalogue

T = TypeVar("T")

# What a stream hands over at a time: a change of thread costs as much as some ten records.
_AT_ONCE = 500


@dataclass(frozen=True)
class Session:
    """What one operation works with, in one thread at a time."""

    settings: Settings
    reader: Reader
    producer: Callable[[], SyncProducer]
    """Makes what this operation sends by."""

    @cached_property
    def catalogue(self) -> Catalogue:
        """The topics by their names, with the steps that are on the broker. Raises KafkaException."""
        return self.settings.catalogue(self.reader.steps(self.settings.topic_prefix))


class Engine:
    """One installation. Safe to use from any number of tasks of one event loop; close() it in the end."""

    def __init__(
        self,
        settings: Settings,
        *,
        reader: Callable[[Mapping[str, str]], Reader] = Reader,
        producer: Callable[[Mapping[str, str]], SyncProducer] = SyncProducer,
    ) -> None:
        """`reader` and `producer` make the clients, by librdkafka's settings."""
        self.settings = settings
        self.client = kafka_client(settings)
        self._new_reader, self._new_producer = reader, producer
        self._idle: deque[Reader] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, work: Callable[[Session], T]) -> T:
        """Return what a blocking function makes of a session."""
        session = self._session()
        try:
            return await in_thread(lambda: work(session), session.reader.stopped)
        finally:
            self._idle.append(session.reader)

    async def stream(self, work: Callable[[Session], Iterator[T | None]]) -> AsyncIterator[T]:
        """Yield what a blocking generator yields; its None says that there is nothing at the moment, and is passed over."""
        session = self._session()
        items = work(session)
        try:
            more = True
            while more:
                some, more = await in_thread(lambda: _take(items), session.reader.stopped)
                for item in some:
                    yield item
        finally:
            # A generator: what it has opened is closed with it.
            await asyncio.to_thread(getattr(items, "close", lambda: None))
            self._idle.append(session.reader)

    def _session(self) -> Session:
        if self._idle:
            # Its connection is warm; which topics there are is asked anew.
            reader = self._idle.pop()
            reader.refresh()
        else:
            reader = self._new_reader(self.client)
        return Session(self.settings, reader, lambda: self._new_producer(self.client))

    async def close(self) -> None:
        """Give the connections back."""
        while self._idle:
            self._idle.pop().close()


def _take(items: Iterator[T | None]) -> tuple[list[T], bool]:
    """Return what is at hand, and whether more may come."""
    some: list[T] = []
    for item in items:
        if item is None:
            return some, True
        some.append(item)
        if len(some) >= _AT_ONCE:
            return some, True
    return some, False
