"""Feeds an auditor from Kafka: from the beginning or from a time on, for as long as one likes, or to the present end.

Events are read by a connection of their own, so that neither they nor what follows from them runs far ahead: what waits
for the other side lies in memory. Nothing is committed and nothing is written: an auditor that restarts begins again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from confluent_kafka import KafkaException

from processors.auditor.auditor import Auditor
from processors.auditor.scope import ReportViolation, Scope
from processors.errors import BadRecord, ConfigurationError
from processors.kafka.reader import Place, Reader, Tail
from processors.kafka.record import Record
from processors.messages.wire import decode_saga, decode_saga_fields
from processors.pipeline.plan_store import PlanBook, UnknownPlan
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Phase
from processors.saga_table.changelog import peek
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

# What may wait in memory for the other side before that side alone is read; a record is 1 to 4 KB.
AHEAD = 20_000
# How often the broker is asked for the end of partitions that something waits for.
ENDS_EVERY_S = 0.5
_PHASES = tuple(Phase)
_MS = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Beginning:
    """From where an audit reads; `since_ms` 0 for all that is there. `decisions_only`: events, states and commands."""

    catalogue: Catalogue
    since_ms: int
    history: timedelta
    commands: timedelta
    decisions_only: bool = False


class Follower:
    """One audit of one installation. Raises ConfigurationError for topics that are missing, KafkaException."""

    def __init__(self, reader: Reader, begin: Beginning, report: ReportViolation = lambda violation: None) -> None:
        self._reader = reader
        self._plans = _Book()
        self._topics = begin.catalogue
        now_ms = int(time.time() * 1000)
        starts = reader.at(begin.catalogue.events.name, begin.since_ms)
        if len(starts) != reader.partitions(begin.catalogue.sagas.name):
            raise ConfigurationError(
                f"{begin.catalogue.events.name} and {begin.catalogue.sagas.name} differ in partitions; "
                "see `scrapesaga topics verify`"
            )
        scope = Scope(
            begin.catalogue,
            starts,
            since_ms=begin.since_ms,
            history_ms=now_ms - begin.history // _MS,
            commands_ms=now_ms - begin.commands // _MS,
        )
        self.auditor = Auditor(scope, self._plans, report)
        self._refresh()
        self.taken_over = self._seed() if any(starts.values()) else 0
        self._events = reader.tail({(scope.events, number): offset for number, offset in starts.items()})
        self._others = reader.tail(dict(self._other_places(begin)))
        self._next_event = dict(starts)
        self._asked_s = 0.0
        self._targets: dict[tuple[str, int], tuple[int, int]] = {}

    def _other_places(self, begin: Beginning) -> Iterator[tuple[Place, int]]:
        known = self._topics
        topics = [known.sagas, *map(known.commands, known.steps)]
        if not begin.decisions_only:
            topics += [known.records, known.urls, known.dead_letters]
            # Every sum is made of all of it.
            yield from self._reader.starts(self._reader.places([known.spend.name]), 0).items()
        yield from self._reader.starts(self._reader.places(topic.name for topic in topics), begin.since_ms).items()

    def _refresh(self) -> None:
        self._plans.book = PlanBook.of((one.key, one.value) for one in self._reader.records(self._topics.plans.name))

    def _seed(self) -> int:
        """Take over the sagas that were in flight at the beginning, each at its last state from before."""
        starts = self.auditor.scope.starts
        latest: dict[tuple[int, bytes], tuple[int, bytes | None]] = {}
        for record in self._reader.records(self._topics.sagas.name):
            if record.value is None or not starts.get(record.partition):
                continue
            try:
                seq, _, phase = peek(record.value)[:3]
                place = record.partition, record.key or b""
                if latest.get(place, (-1, None))[0] >= seq:
                    continue
                if decode_saga_fields(record.value)["offset"] >= starts[record.partition]:
                    continue
            except BadRecord:
                # Reported when the topic is read in its turn.
                continue
            latest[place] = seq, None if _PHASES[phase] in ENDED else record.value
        taken = 0
        for (partition, _), (_, value) in latest.items():
            if value is not None:
                self.auditor.seed(partition, decode_saga(value, self._plans))
                taken += 1
        return taken

    # --- reading ------------------------------------------------------------------------------------------------------

    def step(self, timeout_s: float = 0.1) -> int:
        """Read what there is, judge what can be judged; return how many records came."""
        took = 0
        if self.auditor.ahead < AHEAD or self.auditor.behind >= AHEAD:
            took += self._read_events(self._events.read(0.0))
        if self.auditor.behind < AHEAD or self.auditor.ahead >= AHEAD:
            took += self._read_others(self._others.read(0.0 if took else timeout_s))
        self._look_at_ends()
        self.auditor.settle(int(time.time() * 1000))
        return took

    def _read_events(self, records: list[Record]) -> int:
        for record in records:
            self._check_gap(record)
            try:
                self.auditor.event(record)
            except UnknownPlan:
                # Intake publishes a plan before it names it: reading to the end finds it, or it doesn't exist.
                self._refresh()
                try:
                    self.auditor.event(record)
                except UnknownPlan:
                    self.auditor.unreadable(record)
        return len(records)

    def _check_gap(self, record: Record) -> None:
        due = self._next_event[record.partition]
        self._next_event[record.partition] = record.offset + 1
        # Offsets that are no records, such as a transaction's marker, lie among those that are left.
        if record.offset > due and self._first_left(record) > due:
            raise ConfigurationError(
                f"events {due} to {record.offset - 1} of {record.topic}-{record.partition} were removed before the audit "
                "read them; begin later, see --since and SCRAPESAGA_AUDIT_SINCE"
            )

    def _first_left(self, record: Record) -> int:
        place = record.topic, record.partition
        return self._reader.bounds([place])[place].first

    def _read_others(self, records: list[Record]) -> int:
        for record in records:
            self.auditor.other(record)
        return len(records)

    def _look_at_ends(self) -> None:
        """Find out, now and then, whether what is waited for has been read to its end."""
        watermark = self.auditor.watermark
        now_s = time.monotonic()
        if now_s - self._asked_s >= ENDS_EVERY_S:
            self._asked_s = now_s
            events = ((self.auditor.scope.events, number) for number in self.auditor.scope.starts)
            for topic, partition in self.auditor.waits_for() | set(events):
                if (topic, partition) in self._targets:
                    continue
                records_read = watermark.records_read
                try:
                    self._targets[topic, partition] = self._tail_of(topic).end(topic, partition), records_read
                except KafkaException as error:
                    # The broker is away: what waits goes on waiting.
                    log.debug("can't ask for the end of %s-%s: %s", topic, partition, error)
                    return
        for place, (end, records_read) in list(self._targets.items()):
            if self._tail_of(place[0]).positions.get(place, end) >= end:
                watermark.at_end(*place, records_read)
                del self._targets[place]

    def _tail_of(self, topic: str) -> Tail:
        return self._events if topic == self.auditor.scope.events else self._others

    @property
    def lag(self) -> int:
        """How many events were not read yet."""
        return self._events.lag()

    def close(self) -> None:
        """Close the connections."""
        self._events.close()
        self._others.close()

    # --- to the present end ---------------------------------------------------------------------------------------------

    def to_end(self) -> None:
        """Read to what is the end of every topic by now, and judge."""
        for _ in self.steps_to_end():
            pass

    def steps_to_end(self) -> Iterator[int]:
        """Likewise, step by step.

        Events end last: each record that is judged has its event before that.
        """
        others = {place: self._others.end(*place) for place in self._others.positions}
        events = {place: self._events.end(*place) for place in self._events.positions}
        while not (_reached(self._events, events) and _reached(self._others, others)):
            yield self.step()
        # What came later may wait for events that come later still; what came before is settled by asking once more.
        waited = time.monotonic() + 3 * ENDS_EVERY_S
        while time.monotonic() < waited:
            yield self.step()


def _reached(tail: Tail, ends: dict[tuple[str, int], int]) -> bool:
    return all(tail.positions[place] >= end for place, end in ends.items())


class _Book:
    """The plans as they were last read."""

    def __init__(self) -> None:
        self.book = PlanBook()

    def __call__(self, plan_hash: str) -> Plan:
        return self.book(plan_hash)
