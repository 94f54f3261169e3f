"""The audit's rule: what the log of events makes of every saga has to be, byte for byte, what the topics hold.

Topics are read in this order: states, commands, events. Commands are sent before the state that issued them is saved,
and both come after their event, so what the first topic has, the later ones have too, while the engine runs on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from processors.errors import BadRecord
from processors.kafka.record import Record
from processors.messages.reencode import reencoded
from processors.messages.wire import (
    FindPlan,
    decode_command,
    decode_event,
    decode_saga,
    decode_saga_fields,
    encode_command,
    encode_saga,
)
from processors.saga.commands import StepCommand
from processors.saga.protocol import advance_or_park
from processors.saga.state import Saga


class StateKey(NamedTuple):
    """Which state: of two with the same key, one is a repeat."""

    partition: int
    job_id: str
    seq: int


class CommandKey(NamedTuple):
    """Which command."""

    partition: int
    job_id: str
    seq: int
    step: str
    action: str


Key = StateKey | CommandKey


class Seen(NamedTuple):
    """A state or command as a topic has it: where, and what (a digest, as a log may not fit into memory)."""

    place: str
    digest: bytes


class Seed(NamedTuple):
    """The last state of a job whose event is no longer in the log."""

    seq: int
    value: bytes


@dataclass(slots=True)
class VerifyReport:
    """What the audit counted, and each divergence in the order of the log."""

    events: int = 0
    undecodable: int = 0
    states: int = 0
    commands: int = 0
    repeats: int = 0
    expired: int = 0
    pending: int = 0
    before_log: int = 0
    divergences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """Up to which time (milliseconds) states and commands may have been removed by their topics."""

    states_ms: int
    commands_ms: int

    @classmethod
    def since(cls, now_ms: int, history: timedelta, commands: timedelta) -> Kept:
        """Return what may be gone now, by how long the topics keep things."""
        one = timedelta(milliseconds=1)
        return cls(now_ms - history // one, now_ms - commands // one)


def digest(value: bytes) -> bytes:
    """Return what tells two values apart."""
    return hashlib.blake2b(value, digest_size=16).digest()


class Topics:
    """What the topics of states and commands hold, read before the events."""

    def __init__(self, report: VerifyReport) -> None:
        self.seen: dict[Key, list[Seen]] = {}
        self.watermark: dict[int, int] = {}
        self.seeds: dict[tuple[int, str], Seed] = {}
        self._report = report

    def add_state(self, record: Record, log_starts: int) -> None:
        """Take one record of the states topic; `log_starts` is the first event that its partition still has."""
        if record.value is None:
            return
        try:
            state = decode_saga_fields(record.value)
        except BadRecord as error:
            self._report.divergences.append(f"{record}: no state: {error}")
            return
        job_id, seq, offset = state["job_id"], state["seq"], state["offset"]
        if record.key != job_id.encode():
            self._report.divergences.append(f"{record}: the state of {job_id}, under the key {record.key!r}")
        number = record.partition
        self._note(StateKey(number, job_id, seq), record)
        self.watermark[number] = max(self.watermark.get(number, -1), offset)
        if offset < log_starts:
            # Its event is no longer in the log: what follows is judged from the last such state on.
            old = self.seeds.get((number, job_id))
            if old is None or old.seq < seq:
                self.seeds[number, job_id] = Seed(seq, record.value)

    def add_command(self, record: Record) -> None:
        """Take one record of a command topic."""
        try:
            one = decode_command(record.value)
        except BadRecord as error:
            self._report.divergences.append(f"{record}: no command: {error}")
            return
        self._note(command_key(record.partition, one), record)

    def _note(self, key: Key, record: Record) -> None:
        found = Seen(str(record), digest(reencoded(record.value or b"")))
        same = self.seen.setdefault(key, [])
        if any(other.digest == found.digest for other in same):
            self._report.repeats += 1
        else:
            same.append(found)


def command_key(partition: int, one: StepCommand) -> CommandKey:
    """Return which command this is."""
    return CommandKey(partition, one.job_id, one.seq, one.step, one.action.value)


class Audit:
    """Folds the events, and compares."""

    def __init__(self, topics: Topics, report: VerifyReport, plans: FindPlan, kept: Kept) -> None:
        self._topics = topics
        self._report = report
        self._plans = plans
        self._kept = kept
        self._sagas: dict[tuple[int, str], Saga] = {
            place: decode_saga(seed.value, plans) for place, seed in topics.seeds.items()
        }

    def run(self, events: Iterable[Record]) -> None:
        """Fold events, in order per partition, and then look for what no event explains."""
        for record in events:
            self._apply(record)
        self._orphan_records()

    def _apply(self, record: Record) -> None:
        self._report.events += 1
        try:
            event = decode_event(record.value, self._plans)
            if event.job_id.encode() != record.key:
                raise BadRecord("its key is another job's")
        except BadRecord:
            # Set aside by the coordinator as well; it changes nothing.
            self._report.undecodable += 1
            return
        place = (record.partition, event.job_id)
        saga = self._sagas.get(place)
        decision = advance_or_park(saga, record.offset, event, record.timestamp_ms).decision
        if decision.saga is None:
            self._sagas.pop(place, None)
        else:
            self._sagas[place] = decision.saga
        for one in decision.commands:
            if isinstance(one, StepCommand):
                self._report.commands += 1
                key = command_key(record.partition, one)
                self._compare(key, encode_command(one), record, self._kept.commands_ms)
        if decision.changed and decision.saga is not None:
            self._report.states += 1
            key_ = StateKey(record.partition, event.job_id, decision.saga.seq)
            self._compare(key_, encode_saga(decision.saga), record, self._kept.states_ms)

    def _compare(self, key: Key, value: bytes, event: Record, kept_ms: int) -> None:
        found = self._topics.seen.pop(key, None)
        if found is None:
            if event.offset > self._topics.watermark.get(event.partition, -1):
                self._report.pending += 1
            elif event.timestamp_ms < kept_ms:
                self._report.expired += 1
            else:
                self._report.divergences.append(f"{_name(key)} follows from {event}, and is on no topic")
            return
        expected = digest(value)
        for one in found:
            if one.digest != expected:
                self._report.divergences.append(f"{_name(key)} at {one.place} is not what follows from {event}")

    def _orphan_records(self) -> None:
        for key, found in self._topics.seen.items():
            seed = self._topics.seeds.get((key.partition, key.job_id))
            if seed is not None and key.seq <= seed.seq:
                self._report.before_log += len(found)
                continue
            for one in found:
                self._report.divergences.append(f"{_name(key)} at {one.place} follows from no event")


def _name(key: Key) -> str:
    match key:
        case StateKey():
            return f"state seq {key.seq} of job {key.job_id}"
        case CommandKey():
            return f"{key.action} {key.step} seq {key.seq} of job {key.job_id}"
