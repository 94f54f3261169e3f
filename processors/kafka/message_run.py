"""Messages of confluent-kafka as they come: runs of one partition, with what is known of its end, and values of ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from processors.errors import ScrapesagaError
from processors.kafka.record import Record

_AT_ONCE = 2_000
# The client goes on trying by itself.
_PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)

#: A partition of a topic.
Place = tuple[str, int]


class ReadFailed(ScrapesagaError):
    """Records could not be read: Kafka didn't answer, or they are gone."""


class ReadInterrupted(ScrapesagaError):
    """A read was told to stop before it reached its end."""


class MessageRun(NamedTuple):
    """Consecutive messages of one partition; `next_offset` is how far it is known now, `ended` that this was all."""

    place: Place
    messages: list[Message]
    next_offset: int
    ended: bool


def at_hand(consumer: Consumer, timeout_s: float) -> list[Message]:
    """Return what has come, at most some thousand messages; wait for the first of them, and for no more.

    consume() alone waits its whole time out for the last of as many as it may return.
    """
    messages = consumer.consume(_AT_ONCE, 0)
    if messages or not timeout_s:
        return messages
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(_AT_ONCE, 0)]


def in_runs(
    messages: list[Message], open_: Collection[Place], ends: Mapping[Place, int] | None
) -> Iterator[MessageRun]:
    for place, group in groupby(messages, _place):
        if place in open_:
            yield _run(place, list(group), None if ends is None else ends[place])


def _place(message: Message) -> Place:
    return message.topic(), message.partition()  # type: ignore[return-value]  # of what was read, both are known


def _run(place: Place, messages: list[Message], end: int | None) -> MessageRun:
    read = [message for message in messages if message.error() is None]
    if end is not None and read and _offset(read[-1]) >= end:
        read = [message for message in read if _offset(message) < end]
        return MessageRun(place, read, end, True)
    next_offset = _offset(read[-1]) + 1 if read else -1
    if len(read) == len(messages):
        return MessageRun(place, read, next_offset, next_offset == end)
    ended = False
    for message in messages:
        error = message.error()
        if error is None:
            continue
        if error.code() == KafkaError._PARTITION_EOF:
            next_offset, ended = max(next_offset, _offset(message)), True
        elif not error.retriable() and error.code() not in _PASSING:
            raise KafkaException(error)
    return MessageRun(place, read, next_offset, ended)


def _offset(message: Message) -> int:
    return message.offset()  # type: ignore[return-value]  # one that was read has an offset


def record_of(message: Message) -> Record:
    """Return a message as a value of ours."""
    topic, number = _place(message)
    pairs = cast(list[tuple[str, str | bytes | None]], message.headers() or [])
    return Record(
        topic=topic,
        partition=number,
        offset=_offset(message),
        timestamp_ms=message.timestamp()[1],
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=tuple((name, _bytes(value)) for name, value in pairs),
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
