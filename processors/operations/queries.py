"""Looks at jobs: the state of one, a list, and changes."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from processors.errors import BadRecord
from processors.kafka.reader import Reader
from processors.kafka.record import Record
from processors.messages.wire import decode_saga_fields
from processors.operations.engine import Engine, Session
from processors.operations.errors import InvalidRequest, JobNotFound
from processors.operations.latest_states import LatestStates
from processors.pipeline.plan_store import PlanBook
from processors.saga.state import ENDED, Phase
from processors.saga_table.changelog import ChangelogMemory, fold, peek, seq_in

_PHASES = tuple(Phase)


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as its latest state says; `steps` are the names of its plan's, empty where the plan isn't known."""

    fields: Mapping[str, Any]
    """All fields of the message SagaState."""
    steps: tuple[str, ...] = ()

    @property
    def job_id(self) -> str:
        """Whose state it is."""
        return str(self.fields["job_id"])

    @property
    def phase(self) -> Phase:
        """Where the job is."""
        return Phase(self.fields["phase"])

    @property
    def seq(self) -> int:
        """Its number: a later state of the job has a higher one."""
        return int(self.fields["seq"])

    @property
    def run(self) -> int:
        """Which run of the job it is of."""
        return int(self.fields["run"])

    @property
    def offset(self) -> int:
        """The event that led to it."""
        return int(self.fields["offset"])

    @property
    def updated_ms(self) -> int:
        """When it changed last."""
        return int(self.fields["updated_ms"])


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted: every condition that is given has to hold."""

    phases: frozenset[Phase] = frozenset()
    label: str | None = None
    pipeline: str | None = None
    since_ms: int = 0
    """Changed since."""

    def pick(self, value: bytes | None) -> dict[str, Any] | None:
        """Return the fields of an encoded state that is wanted; what is no state isn't."""
        with suppress(BadRecord):
            if value is not None and self._may_match(value):
                fields = decode_saga_fields(value)
                return fields if self.matches(fields) else None
        return None

    def _may_match(self, value: bytes) -> bool:
        """Whether an encoded state may be wanted. Most of a log is denied here, and never decoded."""
        if self.phases and _PHASES[peek(value)[2]] not in self.phases:
            return False
        return all(text is None or text.encode() in value for text in (self.label, self.pipeline))

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether a state is wanted."""
        return (
            (not self.phases or fields["phase"] in self.phases)
            and (self.label is None or fields["label"] == self.label)
            and (self.pipeline is None or fields["pipeline"] == self.pipeline)
            and bool(fields["updated_ms"] >= self.since_ms)
        )


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Where a page of a list ends: the next one begins behind it. Its text is for links and options."""

    age: int
    job_id: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return the place of a state in a list: the latest changed first, then by id."""
        return cls(-int(fields["updated_ms"]), str(fields["job_id"]))

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the cursor that a text says. Raises InvalidRequest."""
        try:
            age, job_id = json.loads(base64.urlsafe_b64decode(text.encode()))
            return cls(int(age), str(job_id))
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"{text!r} is not a cursor: use the cursor at the end of the previous page") from error

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.age, self.job_id]).encode()).decode()


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, the latest changed first; `next` is None if there are no more."""

    jobs: tuple[JobState, ...]
    next: Cursor | None


# --- operations -------------------------------------------------------------------------------------------------------


async def status(engine: Engine, job_id: str) -> JobState:
    """Return where a job is. Raises JobNotFound."""
    return await engine.run(lambda session: status_in(session, job_id))


async def list_jobs(
    engine: Engine, wanted: JobFilter | None = None, *, limit: int = 50, after: Cursor | None = None
) -> JobPage:
    """Return the jobs that changed last; behind a cursor, those that did before.

    Without a filter this reads the end of the log. A filter that few jobs match reads as far back as it takes to find
    `limit` of them: `since_ms` bounds that.
    """
    return await engine.run(lambda session: list_in(session, wanted or JobFilter(), limit, after))


async def watch(
    engine: Engine, wanted: JobFilter | None = None, *, job_id: str | None = None, seconds: float | None = None
) -> AsyncIterator[JobState]:
    """Yield each change as it happens, for some seconds or for ever; of one job from its present state to its end."""
    async for state in engine.stream(lambda session: _watched(session, job_id, seconds)):
        if wanted is None or wanted.matches(state.fields):
            yield state


# --- in a session -----------------------------------------------------------------------------------------------------


def status_in(session: Session, job_id: str) -> JobState:
    """Return where a job is. Raises JobNotFound."""
    fields = job_state(session.reader, session.catalogue.sagas.name, job_id)
    if fields is None:
        raise JobNotFound(job_id)
    return JobState(fields, step_names(read_plans(session.reader, session.catalogue.plans.name), fields))


def list_in(session: Session, wanted: JobFilter, limit: int, after: Cursor | None) -> JobPage:
    """Return a page of jobs."""
    reader, topic = session.reader, session.catalogue.sagas.name
    latest = LatestStates(reader, reader.places([topic]))
    matching: dict[bytes, Mapping[str, Any]] = {}
    # One more than asked for tells whether there are more.
    while places := latest.unknown_before(_needed_since(matching, limit + 1, wanted.since_ms)):
        for key in latest.read_more(places):
            matching.pop(key, None)
            fields = wanted.pick(latest.jobs[key].value)
            if fields is not None and (after is None or Cursor.of(fields) > after):
                matching[key] = fields
    found = sorted(matching.values(), key=Cursor.of)
    plans = read_plans(reader, session.catalogue.plans.name) if found else PlanBook()
    page = tuple(JobState(fields, step_names(plans, fields)) for fields in found[:limit])
    return JobPage(page, Cursor.of(page[-1].fields) if len(found) > limit else None)


def _needed_since(matching: Mapping[bytes, Mapping[str, Any]], count: int, since_ms: int) -> int:
    """Return the time from which on all has to be known: that of the last job of the page, or `since_ms`."""
    if len(matching) < count:
        return since_ms
    times = heapq.nlargest(count, (fields["updated_ms"] for fields in matching.values()))
    return max(int(times[-1]), since_ms)


def _watched(session: Session, job_id: str | None, seconds: float | None) -> Iterator[JobState | None]:
    reader, topic = session.reader, session.catalogue.sagas.name
    only = None if job_id is None else [reader.partition_of(topic, job_id)]
    plans = read_plans(reader, session.catalogue.plans.name)
    following = reader.follow(topic, seconds, only)
    # Following begins before the present state is read: nothing falls between the two.
    next(following, None)
    told = -1
    if job_id is not None and (present := job_state(reader, topic, job_id)) is not None:
        told = present["seq"]
        yield JobState(present, step_names(plans, present))
        if present["phase"] in ENDED:
            return
    for record in following:
        if record is None or record.value is None or (job_id is not None and record.key != job_id.encode()):
            yield None
            continue
        fields = decode_saga_fields(record.value)
        if job_id is not None and fields["seq"] <= told:
            continue
        told = fields["seq"]
        if fields["plan_hash"] not in plans:
            plans = read_plans(reader, session.catalogue.plans.name)
        yield JobState(fields, step_names(plans, fields))
        if job_id is not None and fields["phase"] in ENDED:
            return


# --- states and plans -------------------------------------------------------------------------------------------------


class Newest:
    """The latest state of each job, by the rule that the coordinator's own table is restored by."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._states: dict[bytes, bytes] = {}
        fold(self._states, ChangelogMemory(), ((r.key or b"", r.value, seq_in(r.headers)) for r in records))

    def state(self, job_id: str) -> dict[str, Any] | None:
        """Return a job's state as a mapping. Raises BadRecord."""
        value = self._states.get(job_id.encode())
        return None if value is None else decode_saga_fields(value)

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield every job's state; what is no state is passed over: one such record must not hide all jobs."""
        for value in self._states.values():
            with suppress(BadRecord):
                yield decode_saga_fields(value)


def all_states(reader: Reader, topic: str) -> Newest:
    """Return the latest state of every job."""
    return Newest(reader.records(topic))


def job_state(reader: Reader, topic: str, job_id: str) -> dict[str, Any] | None:
    """Return the latest state of one job, reading its partition from the end; None if there is none. Raises BadRecord."""
    key, place = job_id.encode(), (topic, reader.partition_of(topic, job_id))
    latest = LatestStates(reader, [place], only=key)
    while True:
        found = latest.jobs.get(key)
        known_ms = latest.known_ms(place)
        if known_ms < 0 or (found is not None and found.written_ms >= known_ms):
            return None if found is None or found.value is None else decode_saga_fields(found.value)
        latest.read_more([place])


def plan_book(records: Iterable[Record]) -> PlanBook:
    """Return what records of the plans topic say."""
    return PlanBook.of((record.key, record.value) for record in records)


def read_plans(reader: Reader, topic: str) -> PlanBook:
    """Read all plans."""
    return plan_book(reader.records(topic))


def step_names(plans: PlanBook, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a state's steps; empty if its plan isn't known."""
    try:
        return tuple(step.name for step in plans(fields["plan_hash"]).steps)
    except BadRecord:
        return ()


def under_way(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return what a saga is at: each step by name where the plan is known, else by number, and the attempt."""
    if fields["phase"] in ("COMPLETED", "COMPENSATED"):
        return str(fields["failed_step"])
    found = []
    for place, step in enumerate(fields["steps"]):
        flight = step["in_flight"]
        if flight is not None:
            name = names[place] if place < len(names) else f"step {place + 1}"
            attempt = f" #{flight['attempt']}" if flight["attempt"] > 1 else ""
            found.append(f"{str(flight['action']).lower()} {name}{attempt}")
    return ", ".join(found)
