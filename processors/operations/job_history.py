"""The history of a job: every record of it on every topic, decoded.

A job's state says when its run began, and its partition where its records lie: what was written before, and elsewhere, is
not read. Requests on scrape.urls are found by the places that the job's events and dead letters name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.errors import BadRecord
from processors.kafka.reader import Place
from processors.kafka.record import Record, header_values
from processors.messages.dead_letters import source_of
from processors.messages.scrape_request import read_request
from processors.operations.engine import Engine, Session
from processors.operations.errors import RequestRefused
from processors.operations.queries import job_state, under_way
from schemas.codec import UndecodableMessage, codec, message_name
from schemas.registry import is_framed

# Brokers stamp records with clocks of their own.
_SKEW_MS = 60_000
# The first run of a job is named by the second in which it began, and each later one by the next number. So the name of a
# later run is the first second plus the number of redrives: nobody redrives one job thousands of times.
_REDRIVES_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record, and what was understood of it; `message` is "" for what is none of the engine's messages."""

    record: Record
    message: str
    fields: Mapping[str, Any]

    @property
    def job_id(self) -> str:
        """Whose it is: as the message says, else a header of the record, else empty."""
        said = self.fields.get("job_id")
        return str(said) if said else self.header("job-id")

    @property
    def label(self) -> str | None:
        """The label in the message; None if it has none."""
        label = self.fields.get("label")
        return None if label is None else str(label)

    def header(self, name: str) -> str:
        """Return a header as text; empty if there is none."""
        return header_values(self.record.headers).get(name, b"").decode("utf-8", "replace")

    def gist(self) -> str:
        """Return what happened, in a few words."""
        about = self.fields
        match self.message:
            case "scrape_request":
                return f"request {about['url']}"
            case "submitted":
                return f"submitted to {about['pipeline']}, plan {about['plan_hash']}: {about['url']}"
            case "operator_request":
                return f"{about['kind']} by {about['by']} {about['from_step']} {about['reason']}".rstrip()
            case "timed_out":
                return f"timer of seq {about['seq']}"
            case "step_command":
                return f"{about['action']} {about['step']} run {about['run']} seq {about['seq']} #{about['attempt']}"
            case "step_result":
                said = f"{about['action']} {about['step']} seq {about['seq']} {about['outcome']}"
                return f"{said}: {about['reason']}" if about["reason"] else said
            case "saga_state":
                at = under_way(about, ())
                return f"{about['phase']} run {about['run']} seq {about['seq']} {at} {about['reason']}".rstrip()
            case _:
                return _unread(self.record.value)


def _unread(value: bytes | None) -> str:
    """Return what can be said of bytes that are no message of ours."""
    if value is None:
        return "tombstone"
    registered = f" of the registry's schema {int.from_bytes(value[1:5])}" if is_framed(value) else ""
    return f"{len(value)} bytes{registered}"


def decode(record: Record) -> Decoded:
    """Return what a record says; never fails: an audit shows damaged records too."""
    value = record.value
    if value is None:
        return Decoded(record, "", {})
    name = message_name(value)
    try:
        if name is not None:
            return Decoded(record, name, codec(name).decode(value))
        if value.lstrip()[:1] in (b"{", b"h"):
            request = read_request(value, record.key)
            return Decoded(record, "scrape_request", {f: getattr(request, f) for f in request.__struct_fields__})
    except (UndecodableMessage, BadRecord):
        pass
    return Decoded(record, "", {})


# --- operation --------------------------------------------------------------------------------------------------------


async def history(engine: Engine, job_id: str, since_ms: int | None = None) -> list[Decoded]:
    """Return every record of a job, in the order of time. Raises RequestRefused if there is none.

    It reaches back to `since_ms`, by default to the beginning of the job's first run. Where a job came back after it was
    forgotten, its earlier life lies before that: 0 is all that there is. So is a job without a state.
    """
    return await engine.run(lambda session: history_in(session, job_id, since_ms))


def history_in(session: Session, job_id: str, since_ms: int | None) -> list[Decoded]:
    """Return every record of a job."""
    state = job_state(session.reader, session.catalogue.sagas.name, job_id)
    if since_ms is None:
        since_ms = 0 if state is None else began_ms(state)
    found = [*_keyed(session, job_id, since_ms), *_others(session, job_id, since_ms)]
    if state is None:
        found += _requests_of(session, job_id)
    else:
        found += _requests_at(session, _origins(session, state, found))
    if not found:
        raise RequestRefused(
            f"no record of job {job_id!r} on any topic: it was never submitted, or the topics do not keep it any more"
        )
    return sorted(found, key=lambda one: (one.record.timestamp_ms, one.record.topic, one.record.offset))


def began_ms(state: Mapping[str, Any]) -> int:
    """Return a time before which nothing was written of a job's first run."""
    first_run = int(state["run"]) == int(state["started_ms"]) // 1000
    began = int(state["started_ms"]) if first_run else int(state["run"]) * 1000 - _REDRIVES_MS
    return max(0, min(began, int(state["started_ms"])) - _SKEW_MS)


def _keyed(session: Session, job_id: str, since_ms: int) -> Iterator[Decoded]:
    """Yield what lies under the job's key, each topic's in the job's own partition, all of them read at the same time."""
    catalogue, reader = session.catalogue, session.reader
    topics = [catalogue.events, catalogue.sagas]
    for step in catalogue.steps:
        topics += [catalogue.commands(step), catalogue.results(step)]
    names = [topic.name for topic in topics if topic.name in reader.topics()]
    places = [(name, reader.partition_of(name, job_id)) for name in names]
    yield from map(decode, _between(session, places, since_ms, job_id.encode()))


def _others(session: Session, job_id: str, since_ms: int) -> Iterator[Decoded]:
    """Yield what lies under any key: records may have one of their own, and dead letters had another."""
    places = session.reader.places([session.catalogue.records.name, session.catalogue.dead_letters.name])
    key = job_id.encode()
    for record in _between(session, places, since_ms):
        # Its value says nothing where the headers do, and a record's is in its user's own schema.
        if record.key == key or ("job_id", key) in record.headers or decode(record).job_id == job_id:
            yield decode(record)


def _between(session: Session, places: list[Place], since_ms: int, key: bytes | None = None) -> Iterator[Record]:
    reader = session.reader
    ends = {place: bounds.end for place, bounds in reader.bounds(places).items()}
    return reader.read(reader.starts(places, since_ms), ends, key=key)


def _origins(session: Session, state: Mapping[str, Any], found: list[Decoded]) -> set[tuple[int, int]]:
    """Return the places on scrape.urls that the job's state, events and dead letters name."""
    origins = {(int(one["partition"]), int(one["offset"])) for one in state["origins"]}
    for one in found:
        if one.message == "submitted":
            origins.add((one.fields["origin_partition"], one.fields["origin_offset"]))
        elif (source := source_of(one.record.headers)) is not None and source.topic == session.catalogue.urls.name:
            origins.add((source.partition, source.offset))
    return origins


def _requests_at(session: Session, origins: set[tuple[int, int]]) -> Iterator[Decoded]:
    urls = session.catalogue.urls.name
    for partition, offset in sorted(origins):
        record = session.reader.one((urls, partition), offset)
        if record is not None:
            yield decode(record)


def _requests_of(session: Session, job_id: str) -> Iterator[Decoded]:
    """Yield the requests that name a job of which nothing else is known: no place is known either."""
    key = job_id.encode()
    for record in session.reader.records(session.catalogue.urls.name):
        one = decode(record)
        if record.key == key or one.job_id == job_id:
            yield one
