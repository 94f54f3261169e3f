"""Replays a topic from a time or an offset, to print it or to produce it to another topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from processors.durations import parse_duration
from processors.operations.engine import Engine, Session
from processors.operations.errors import RequestRefused
from processors.operations.job_history import Decoded, decode
from processors.operations.queries import all_states


class Start(NamedTuple):
    """Where a replay begins: an offset of every partition, or a time."""

    offset: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed: a topic with or without the prefix, and of it the records of one job, or of one label's jobs.

    `to_topic` is where they are produced to, with key, value and headers as they are; None for nowhere.
    """

    topic: str
    start: Start
    job_id: str | None = None
    label: str | None = None
    to_topic: str | None = None


def read_start(text: str, now: datetime) -> Start:
    """Return where to begin: digits are an offset, else a moment as `read_moment` reads it.

    Raises ValueError.
    """
    if text.isdigit():
        return Start(int(text), 0)
    try:
        return Start(0, read_moment(text, now))
    except ValueError as error:
        raise ValueError(f"{error}, or an offset such as 0") from None


def read_moment(text: str, now: datetime) -> int:
    """Return a moment in milliseconds: "2h" is a duration ago, else an ISO 8601 time, in UTC if it says no zone.

    Raises ValueError.
    """
    try:
        moment = now - parse_duration(text)
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r}: give a duration ago such as 2h, or a time such as 2026-01-31T06:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(1, int(moment.timestamp() * 1000))


async def replay(engine: Engine, wanted: Replay) -> AsyncIterator[Decoded]:
    """Yield the records up to the topic's present end; each was produced to the other topic, if there is one, by the end.

    Raises RequestRefused for a topic that only the engine may write to, TopicMissing, DeliveryFailed.
    """
    async for one in engine.stream(lambda session: _replayed(session, wanted)):
        yield one


def _replayed(session: Session, wanted: Replay) -> Iterator[Decoded]:
    source = full_name(session, wanted.topic)
    target = None if wanted.to_topic is None else target_name(session, source, wanted.to_topic)
    chosen = _chooser(session, wanted)
    sender = None if target is None else session.producer()
    start = wanted.start
    for record in session.reader.records(source, offset=start.offset, since_ms=start.since_ms):
        one = decode(record)
        if chosen(one):
            if sender is not None and target is not None:
                sender.send(target, record.value, key=record.key, headers=record.headers)
            yield one
    if sender is not None:
        sender.finish()


def full_name(session: Session, topic: str) -> str:
    """Return a topic's name on Kafka, where it was given with or without the prefix. Raises TopicMissing."""
    prefixed = f"{session.settings.topic_prefix}.{topic}"
    name = prefixed if prefixed in session.reader.topics() else topic
    session.reader.partitions(name)
    return name


def target_name(session: Session, source: str, topic: str) -> str:
    """Return the topic to produce to. Raises RequestRefused for one that only the engine may write to."""
    catalogue = session.catalogue
    name = full_name(session, topic)
    if name == source:
        raise RequestRefused(f"{name} can't be replayed to itself; give another --to-topic")
    owned = {one.name for one in catalogue} - {catalogue.urls.name}
    if name in owned:
        raise RequestRefused(
            f"only the engine may write to {name}; replay to {catalogue.urls.name}, or to a topic of your own"
        )
    return name


def _chooser(session: Session, wanted: Replay) -> Callable[[Decoded], bool]:
    """Return which records are wanted; a label is the records' own, else that of the job that they belong to."""
    if wanted.job_id is not None:
        key = wanted.job_id.encode()
        return lambda one: one.record.key == key or one.job_id == wanted.job_id
    if wanted.label is None:
        return lambda one: True
    states = all_states(session.reader, session.catalogue.sagas.name).all()
    jobs = {state["job_id"] for state in states if state["label"] == wanted.label}

    def labelled(one: Decoded) -> bool:
        if one.label:
            return one.label == wanted.label
        key = (one.record.key or b"").decode("utf-8", "replace")
        return (one.job_id or key) in jobs

    return labelled
