"""The conservation of jobs: every accepted job is in exactly one state, or was forgotten after its end.

Counted from the topics alone, without the rules: submissions on one side, states on the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from processors.errors import BadRecord
from processors.kafka.reader import Reader
from processors.kafka.record import Record
from processors.messages.dead_letters import source_of
from processors.messages.scrape_request import read_request
from processors.operations.engine import Engine, Session
from processors.operations.latest_states import event_of
from processors.operations.queries import Newest
from schemas.codec import UndecodableMessage, codec, message_name
from topics.catalogue import Catalogue

#: In the order of the sentence.
STATES = ("completed", "compensated", "running", "compensating", "parked")


@dataclass(slots=True)
class Sums:
    """One batch: the jobs that were accepted, and where each is."""

    accepted: set[str] = field(default_factory=set)
    by_state: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0
    pending: int = 0
    set_aside: int = 0
    rejections: set[tuple[int, int]] = field(default_factory=set)
    """Places of requests; a dead letter may be written twice."""
    lost: set[str] = field(default_factory=set)

    def numbers(self) -> dict[str, int]:
        """Return the sums by name; `accepted` is the sum of the others but `rejected`."""
        found = {state: self.by_state.get(state, 0) for state in STATES}
        rest = {"not_begun": self.pending, "forgotten": self.forgotten, "set_aside": self.set_aside}
        rest["nowhere"] = len(self.lost)
        return {"accepted": len(self.accepted), **found, **rest, "rejected": len(self.rejections)}

    def line(self) -> str:
        """Return the sentence: "1,000 accepted = 981 completed + 12 compensated + 4 running + 3 parked"."""
        numbers = self.numbers()
        accepted, rejected = numbers.pop("accepted"), numbers.pop("rejected")
        parts = [f"{number:,} {name.replace('_', ' ')}" for name, number in numbers.items() if number]
        said = f"{accepted:,} accepted = {' + '.join(parts) or '0'}"
        return said + (f"; {rejected:,} rejected" if rejected else "")


async def conservation(engine: Engine, label: str | None = None) -> dict[str, Sums]:
    """Return for each batch by its label, or for one of them, what became of every job that was accepted."""
    return await engine.run(lambda session: _conservation(session, label))


def _conservation(session: Session, label: str | None) -> dict[str, Sums]:
    kept = session.settings.retention_tombstones // timedelta(milliseconds=1)
    batches = count(session.reader, session.catalogue, int(time.time() * 1000) - kept)
    return batches if label is None else {name: sums for name, sums in batches.items() if name == label}


def count(reader: Reader, catalogue: Catalogue, tombstones_ms: int) -> dict[str, Sums]:
    """Return the sums of every batch by its label.

    Submissions are read before states: what was accepted by then has a state by now, unless its partition's coordinator
    has not come so far. `tombstones_ms` is the time up to which the mark of a forgotten job may have been removed, too.
    """
    batches: dict[str, Sums] = {}
    places: dict[str, tuple[Record, str]] = {}
    for record in reader.records(catalogue.events.name):
        event = _submitted(record)
        if event is not None and event["job_id"] not in places:
            places[event["job_id"]] = record._replace(value=None), event["label"]
            batches.setdefault(event["label"], Sums()).accepted.add(event["job_id"])
    set_aside = _set_aside(reader, catalogue, batches)
    seen = _Seen()
    states = {
        state["job_id"]: state["phase"] for state in Newest(seen.watch(reader.records(catalogue.sagas.name))).all()
    }
    for job, (record, label) in places.items():
        sums = batches[label]
        if job in states:
            name = str(states[job]).lower()
            sums.by_state[name] = sums.by_state.get(name, 0) + 1
        elif job in seen.forgotten or record.timestamp_ms < tombstones_ms:
            sums.forgotten += 1
        elif (record.partition, record.offset) in set_aside:
            sums.set_aside += 1
        elif record.offset > seen.decided.get(record.partition, -1):
            sums.pending += 1
        else:
            sums.lost.add(job)
    return batches


class _Seen:
    """What the states say on their way: how far each partition was decided, and which jobs were forgotten."""

    def __init__(self) -> None:
        self.decided: dict[int, int] = {}
        self.forgotten: set[str] = set()

    def watch(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record.value is None:
                self.forgotten.add((record.key or b"").decode("utf-8", "replace"))
            else:
                offset = event_of(record.value)
                if offset < 0:
                    # An audit of the log names it; the last good state of its job counts here.
                    continue
                self.decided[record.partition] = max(self.decided.get(record.partition, -1), offset)
            yield record


def _set_aside(reader: Reader, catalogue: Catalogue, batches: dict[str, Sums]) -> set[tuple[int, int]]:
    """Return the places of the events that have dead letters; count those of requests in their batches."""
    found = set()
    for record in reader.records(catalogue.dead_letters.name):
        source = source_of(record.headers)
        if source is None:
            continue
        place = source.partition, source.offset
        if source.topic == catalogue.urls.name:
            batches.setdefault(_label(record), Sums()).rejections.add(place)
        elif source.topic == catalogue.events.name:
            found.add(place)
    return found


def _submitted(record: Record) -> dict[str, Any] | None:
    if record.value is None or message_name(record.value) != "submitted":
        return None
    try:
        return codec("submitted").decode(record.value)
    except UndecodableMessage:
        return None


def _label(record: Record) -> str:
    """Return the label of a request that intake refused; empty if it can't be read."""
    try:
        return read_request(record.value, record.key).label or ""
    except BadRecord:
        return ""
