"""All topics: the key, the value, the retention and the purpose of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from topics.errors import BadCatalogue, UnknownTopic

#: The steps of the default pipeline, in order.
DEFAULT_STEPS = ("fetch", "parse", "enrich", "load", "notify")

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# No dots: `scrape.a.b.commands` could be step `a.b` of one prefix or step `b` of another.
_STEP = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

_Config = Mapping[str, str]

_MIB = 1024 * 1024
#: A record's headers and its batch's own fields, on top of the largest value.
_OVERHEAD_BYTES = _MIB // 2
#: What a batch takes beyond its one record: its header, the lengths, the framing of a compression that gains nothing.
_BATCH_BYTES = 1_024
#: One event, result or request: Kafka's usual limit.
_MESSAGE_BYTES = _MIB
#: A state or a command carries the outputs of all earlier steps, each of which came in an event of its own.
_STATE_BYTES = 4 * _MIB
# The active segment is never compacted, and segments roll at a week or 1 GiB by default: a quiet log would never be.
_SEGMENT_AGE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records stay, by kind of topic.

    `history` is how long every version of a key survives in a compacted topic before only the last one does;
    `tombstones` is how long a reader may be away and still learn that a key was deleted.
    """

    urls: timedelta = timedelta(days=7)
    commands: timedelta = timedelta(days=7)
    events: timedelta = timedelta(days=30)
    results: timedelta = timedelta(days=30)
    pages: timedelta = timedelta(days=30)
    dead_letters: timedelta = timedelta(days=90)
    history: timedelta = timedelta(days=7)
    tombstones: timedelta = timedelta(days=7)


class Partitioning(StrEnum):
    """Whether the number of partitions of a topic may change, and why."""

    BY_KEY = "by key"  # all records of a key in one partition, the same one in each topic that has this key
    SINGLE = "single"  # one order over all keys
    FREE = "free"  # nothing: more partitions may be added


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as the engine needs it on the broker."""

    short_name: str
    name: str
    partitions: int
    replication_factor: int
    key: str
    value: str
    partitioning: Partitioning
    config: Mapping[str, str]
    doc: str

    @property
    def cleanup_policy(self) -> str:
        """Kafka's `cleanup.policy`: delete, compact, or compact,delete."""
        return self.config["cleanup.policy"]

    @property
    def retention(self) -> timedelta | None:
        """How long a record stays; None where only a newer record of its key removes it."""
        retention_ms = self.config.get("retention.ms", "-1")
        return None if retention_ms == "-1" else timedelta(milliseconds=int(retention_ms))

    @property
    def max_message_bytes(self) -> int:
        """The largest batch that the broker accepts."""
        return int(self.config["max.message.bytes"])

    @property
    def max_record_bytes(self) -> int:
        """The largest record with its key and headers: a batch of this record alone stays below the limit."""
        return self.max_message_bytes - _BATCH_BYTES


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All topics of one installation, in a stable order. Raises BadCatalogue for names and numbers that Kafka refuses.

    Topics keyed by job_id share `partitions`, so that a job's events, commands and state have the same partition.
    """

    prefix: str = "scrape"
    partitions: int = 8
    replication_factor: int = 1
    steps: tuple[str, ...] = DEFAULT_STEPS
    retention: Retention = field(default_factory=Retention)
    max_page_bytes: int = 10 * _MIB
    _topics: Mapping[str, Topic] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)
        by_short_name = {topic.short_name: topic for topic in _table(self)}
        object.__setattr__(self, "_topics", MappingProxyType(by_short_name))

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def __len__(self) -> int:
        return len(self._topics)

    def topic(self, short_name: str) -> Topic:
        """Return a topic by its name without the prefix, for example "pages" or "fetch.commands"."""
        try:
            return self._topics[short_name]
        except KeyError:
            known = ", ".join(self._topics)
            raise UnknownTopic(f"No topic {short_name!r} is declared. Declared are: {known}.") from None

    def commands(self, step: str) -> Topic:
        """Return the topic that carries a step's commands."""
        return self.topic(f"{step}.commands")

    def results(self, step: str) -> Topic:
        """Return the topic that records a step's results."""
        return self.topic(f"{step}.results")

    @property
    def urls(self) -> Topic:
        """The URLs that users produce."""
        return self.topic("urls")

    @property
    def events(self) -> Topic:
        """The coordinator's one inbox."""
        return self.topic("events")

    @property
    def sagas(self) -> Topic:
        """The state of every saga."""
        return self.topic("sagas")

    @property
    def plans(self) -> Topic:
        """The pinned plans, by hash."""
        return self.topic("plans")

    @property
    def pages(self) -> Topic:
        """The archived pages."""
        return self.topic("pages")

    @property
    def records(self) -> Topic:
        """The records that users read."""
        return self.topic("records")

    @property
    def spend(self) -> Topic:
        """The ledger of paid calls."""
        return self.topic("spend")

    @property
    def dead_letters(self) -> Topic:
        """Records that could not be used."""
        return self.topic("dead-letters")


def _table(c: Catalogue) -> Iterator[Topic]:
    keep = c.retention
    by_key, single, free = Partitioning.BY_KEY, Partitioning.SINGLE, Partitioning.FREE
    page_bytes = c.max_page_bytes + _OVERHEAD_BYTES

    def topic(name: str, by: Partitioning, key: str, value: str, config: _Config, doc: str) -> Topic:
        count = 1 if by is Partitioning.SINGLE else c.partitions
        config = MappingProxyType({**config, **_everywhere(c.replication_factor)})
        return Topic(name, f"{c.prefix}.{name}", count, c.replication_factor, key, value, by, config, doc)

    yield topic("urls", free, "any", "ScrapeRequest, or JSON", _delete(keep.urls, _MESSAGE_BYTES),
                "URLs to scrape: users produce here")  # fmt: skip
    yield topic("events", by_key, "job_id", "Event", _delete(keep.events, _MESSAGE_BYTES),
                "everything that the coordinator has to know about sagas, in one order")  # fmt: skip
    yield topic("sagas", by_key, "job_id", "SagaState", _compact(keep, _STATE_BYTES, 64 * _MIB),
                "the state of each saga after each transition: changelog and stream of states")  # fmt: skip
    yield topic("plans", single, "plan:<hash>, pipeline:<name>", "Plan", _compact(keep, _MESSAGE_BYTES, 16 * _MIB),
                "resolved pipelines by hash (a saga is pinned to one), and the current hash of each pipeline")  # fmt: skip
    for step in c.steps:
        yield topic(f"{step}.commands", by_key, "job_id", "StepCommand", _delete(keep.commands, _STATE_BYTES),
                    f"the commands of the step {step}: Execute, Compensate and Confirm, in order")  # fmt: skip
        yield topic(f"{step}.results", by_key, "job_id", "StepResult", _delete(keep.results, _MESSAGE_BYTES),
                    f"the result of each attempt of the step {step}: an audit trail; the engine does not read it")  # fmt: skip
    yield topic("pages", by_key, "job_id:run:step", "the page, zstd", _compact_and_delete(keep, page_bytes, 256 * _MIB),
                "archived pages; claim checks refer to them; a tombstone when compensated")  # fmt: skip
    yield topic("records", by_key, "job_id or business key", "a record", _compact(keep, _STATE_BYTES, 64 * _MIB),
                "the records of completed sagas: users read here; a tombstone when compensated")  # fmt: skip
    yield topic("spend", single, "job_id:run:step", "SpendEntry", _compact(keep, _MESSAGE_BYTES, 16 * _MIB),
                "ledger of paid calls; its order decides which calls fit under a cap")  # fmt: skip
    yield topic("dead-letters", free, "the original", "the original", _delete(keep.dead_letters, page_bytes),
                "records that could not be used; headers give the source and the reason")  # fmt: skip


def _delete(retention: timedelta, max_bytes: int) -> _Config:
    return {"cleanup.policy": "delete", "retention.ms": _ms(retention), "max.message.bytes": str(max_bytes)}


def _compact(keep: Retention, max_bytes: int, segment_bytes: int) -> _Config:
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(max_bytes),
        "segment.bytes": str(segment_bytes),
        "segment.ms": _ms(_SEGMENT_AGE),
        "min.compaction.lag.ms": _ms(keep.history),
        "delete.retention.ms": _ms(keep.tombstones),
        # Half of the log may be garbage by default. These logs are read to the end by whoever starts: less waste there.
        "min.cleanable.dirty.ratio": "0.2",
    }


def _compact_and_delete(keep: Retention, max_bytes: int, segment_bytes: int) -> _Config:
    return {
        **_compact(keep, max_bytes, segment_bytes),
        "cleanup.policy": "compact,delete",
        "retention.ms": _ms(keep.pages),
    }


def _everywhere(replication_factor: int) -> _Config:
    return {
        # The broker's clock: retention counts from arrival, whatever a producer's clock says, and the coordinator
        # takes its time from the log.
        "message.timestamp.type": "LogAppendTime",
        # An acknowledged record survives the loss of one broker, and that loss stops nothing where there are three.
        "min.insync.replicas": str(min(2, replication_factor)),
    }


def _ms(duration: timedelta) -> str:
    return str(duration // timedelta(milliseconds=1))


def _check(c: Catalogue) -> None:
    if not _PREFIX.fullmatch(c.prefix):
        raise BadCatalogue(f"Prefix {c.prefix!r} names topics: use A-Z, a-z, 0-9, not first '.', '_', '-'; up to 100.")
    for step in c.steps:
        if not _STEP.fullmatch(step):
            raise BadCatalogue(f"Step {step!r} names topics: use a-z, 0-9, not first '_', '-'; up to 63.")
    twice = sorted({step for step in c.steps if c.steps.count(step) > 1})
    if twice:
        raise BadCatalogue(f"Steps named twice: {', '.join(twice)}. Each step has topics of its own.")
    for what in ("partitions", "replication_factor", "max_page_bytes"):
        if getattr(c, what) < 1:
            raise BadCatalogue(f"{what} must be at least 1, not {getattr(c, what)}.")
