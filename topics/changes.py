"""What it takes to turn the topics on a broker into those of the catalogue: a pure comparison."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from topics.catalogue import Catalogue, Partitioning, Topic


@dataclass(frozen=True, slots=True)
class ActualTopic:
    """A topic as it is on the broker; `replication_factor` is that of its least replicated partition."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """The topic is missing."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class AlterConfig:
    """Some of the topic's configuration differs; `actual` holds those values, "" where the broker names none."""

    topic: Topic
    actual: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """The topic has too few partitions, and may grow."""

    topic: Topic
    actual: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The topic differs in a way that cannot be mended in place without breaking what lies in it."""

    topic: Topic
    problem: str
    mend: str


Change = CreateTopic | AlterConfig | AddPartitions | Refused


def changes(catalogue: Catalogue, actual: Mapping[str, ActualTopic]) -> list[Change]:
    """Return the changes that make these topics, by name, the catalogue's; none if they already are.

    Topics and configuration that the catalogue doesn't mention are left alone.
    """
    return [change for topic in catalogue for change in _changes(topic, actual.get(topic.name))]


def explain(change: Change) -> str:
    """Return one sentence on what differs."""
    match change:
        case CreateTopic(topic):
            return f"{topic.name} is missing"
        case AlterConfig(topic, actual):
            pairs = (f"{key} is {value or 'not set'}, not {topic.config[key]}" for key, value in actual.items())
            return f"{topic.name}: {'; '.join(pairs)}"
        case AddPartitions(topic, partitions):
            return f"{topic.name} has {partitions} of {topic.partitions} partitions"
        case Refused(_, problem):
            return problem
        case _:
            assert_never(change)


def mend(change: Change, bootstrap_servers: str) -> str:
    """Return the command, of Kafka's own tools, that mends a difference; for a refused one, what to do instead."""
    match change:
        case CreateTopic(topic):
            configs = " ".join(f"--config {shlex.quote(f'{key}={value}')}" for key, value in topic.config.items())
            return (
                f"kafka-topics.sh --bootstrap-server {bootstrap_servers} --create --topic {topic.name} "
                f"--partitions {topic.partitions} --replication-factor {topic.replication_factor} {configs}"
            )
        case AlterConfig(topic, actual):
            # Kafka's tool splits at commas, except within brackets.
            wanted = {key: topic.config[key] for key in actual}
            pairs = (f"{key}=[{value}]" if "," in value else f"{key}={value}" for key, value in wanted.items())
            return (
                f"kafka-configs.sh --bootstrap-server {bootstrap_servers} --alter --topic {topic.name} "
                f"--add-config {shlex.quote(','.join(pairs))}"
            )
        case AddPartitions(topic):
            return (
                f"kafka-topics.sh --bootstrap-server {bootstrap_servers} --alter --topic {topic.name} "
                f"--partitions {topic.partitions}"
            )
        case Refused():
            return change.mend
        case _:
            assert_never(change)


def _changes(topic: Topic, actual: ActualTopic | None) -> Iterator[Change]:
    if actual is None:
        yield CreateTopic(topic)
        return
    if topic.partitioning is Partitioning.FREE:
        if actual.partitions < topic.partitions:
            yield AddPartitions(topic, actual.partitions)
    elif actual.partitions != topic.partitions:
        yield _other_partitions(topic, actual.partitions)
    fewest = actual.replication_factor
    if fewest < topic.replication_factor:
        yield Refused(
            topic,
            f"{topic.name} has {fewest} replicas of a partition, not {topic.replication_factor}: "
            "acknowledged records could be lost with a broker",
            f"Add replicas with kafka-reassign-partitions.sh, or set SCRAPESAGA_REPLICATION_FACTOR={fewest}.",
        )
    different = {
        key: actual.config.get(key, "")
        for key, wanted in topic.config.items()
        if _plain(actual.config.get(key, "")) != _plain(wanted)
    }
    if different:
        yield AlterConfig(topic, different)


def _other_partitions(topic: Topic, actual: int) -> Refused:
    problem = f"{topic.name} has {actual} partitions, not {topic.partitions}"
    afresh = "start afresh under another SCRAPESAGA_TOPIC_PREFIX once every saga has ended"
    if topic.partitioning is Partitioning.SINGLE:
        return Refused(topic, f"{problem}; it is read in one order over all keys", f"Only a new topic helps: {afresh}.")
    return Refused(
        topic,
        problem,
        "Partitions of keyed topics stay as they are: keys would move, and a saga's next event would miss its state. "
        f"Set SCRAPESAGA_PARTITIONS={actual} if that is what all of them have, or {afresh}.",
    )


def _plain(value: str) -> object:
    """Return what a configuration value means: a number or a set of words, however it is written."""
    try:
        return float(value)
    except ValueError:
        return frozenset(word.strip() for word in value.split(","))
