"""Cancels, resumes, skips and redrives jobs, and returns the answer of the coordinator.

A request is an event in scrape.events like any other. Its answer is the state that names its offset, or a later one; a
refusal is the dead letter that names its place.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from processors.kafka.record import Record
from processors.messages.dead_letters import source_of
from processors.messages.wire import decode_saga_fields, encode_event
from processors.operations.engine import Engine, Session
from processors.operations.errors import RequestRefused, Unanswered
from processors.operations.queries import JobState, read_plans, status_in
from processors.saga.events import Cancelled, Redriven, Resumed, ResumeMode
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Phase

OperatorRequest = Cancelled | Resumed | Redriven

#: A coordinator answers within milliseconds; one that takes over from another, within some ten seconds.
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class By:
    """The operator and the reason; kept with the job."""

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequestPosition:
    """Where a request lies in the log of events; `letters` is the partition that it would be set aside in."""

    topic: str
    partition: int
    offset: int
    letters: int


# --- operations -------------------------------------------------------------------------------------------------------
# Each returns the state that the request led to, or None where `wait_s` is 0: then nothing but Kafka is waited for.
# Each raises JobNotFound, RequestRefused with the reason, or Unanswered if no coordinator answers in time: the request stands.


async def cancel(engine: Engine, job_id: str, by: By, *, wait_s: float = WAIT_S) -> JobState | None:
    """Stop a job, and undo every step that ran or may have run."""
    return await engine.run(lambda session: _ask(session, job_id, _cancellation(by), wait_s))


async def resume(engine: Engine, job_id: str, by: By, *, wait_s: float = WAIT_S) -> JobState | None:
    """Repeat the command of a parked job."""
    return await engine.run(lambda session: _ask(session, job_id, _resumption(ResumeMode.RETRY, by), wait_s))


async def skip(engine: Engine, job_id: str, by: By, *, wait_s: float = WAIT_S) -> JobState | None:
    """Skip the command of a parked job. Raises RequestRefused without a reason."""
    if not by.reason:
        raise RequestRefused("a skip needs a reason: it is kept with the job")
    return await engine.run(lambda session: _ask(session, job_id, _resumption(ResumeMode.SKIP, by), wait_s))


async def redrive(engine: Engine, job_id: str, from_step: str, by: By, *, wait_s: float = WAIT_S) -> JobState | None:
    """Run an ended job again from a step, with the current plan. It reuses the results of earlier steps."""
    return await engine.run(lambda session: _ask(session, job_id, _redrive(session, from_step, by), wait_s))


# --- what may be asked ------------------------------------------------------------------------------------------------

# Makes the request of a job as it stands; raises RequestRefused where the coordinator would refuse it.
_Ask = Callable[[JobState], OperatorRequest]


def _ask(session: Session, job_id: str, ask: _Ask, wait_s: float) -> JobState | None:
    return send_and_wait(session, ask(status_in(session, job_id)), wait_s)


def _cancellation(by: By) -> _Ask:
    def ask(job: JobState) -> OperatorRequest:
        if job.phase not in (Phase.RUNNING, Phase.PARKED):
            raise RequestRefused(f"job {job.job_id} is {job.phase}: only a running or parked job can be cancelled")
        return Cancelled(job.job_id, by.name, by.reason)

    return ask


def _resumption(mode: ResumeMode, by: By) -> _Ask:
    def ask(job: JobState) -> OperatorRequest:
        if job.phase is not Phase.PARKED:
            raise RequestRefused(f"job {job.job_id} is {job.phase}: only a parked job can be resumed")
        return Resumed(job.job_id, mode, by.name, by.reason)

    return ask


def _redrive(session: Session, from_step: str, by: By) -> _Ask:
    def ask(job: JobState) -> OperatorRequest:
        if job.phase not in ENDED:
            raise RequestRefused(
                f"job {job.job_id} is {job.phase}: only a completed or compensated job can be redriven"
            )
        pipeline = job.fields["pipeline"]
        plan = read_plans(session.reader, session.catalogue.plans.name).current(pipeline)
        if plan is None:
            raise RequestRefused(f"pipeline {pipeline} has no current plan: does an intake with this pipeline run?")
        if plan.index(from_step) < 0:
            known = ", ".join(step.name for step in plan.steps)
            raise RequestRefused(f"pipeline {plan.pipeline} has no step {from_step!r}; there are: {known}")
        if missing := not_reusable(plan, from_step, dict(zip(job.steps, job.fields["steps"], strict=False))):
            raise RequestRefused(
                f"step {missing!r} of job {job.job_id} has no result to reuse; redrive from {missing!r} or earlier"
            )
        return Redriven(job.job_id, from_step, plan, by.name, by.reason)

    return ask


def not_reusable(plan: Plan, from_step: str, steps: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the first step before `from_step` whose result can't be reused, as the protocol will judge; else empty."""
    for planned in plan.steps[: plan.index(from_step)]:
        step = steps.get(planned.name)
        if step is None or step["status"] not in ("SUCCEEDED", "REUSED") or step["undo"] != "NONE":
            return planned.name
    return ""


# --- sending and waiting ----------------------------------------------------------------------------------------------


def send_and_wait(session: Session, request: OperatorRequest, wait_s: float) -> JobState | None:
    """Send a request, and return the state that it led to; None if `wait_s` is 0. Raises RequestRefused, Unanswered."""
    catalogue, reader = session.catalogue, session.reader
    partition = reader.partition_of(catalogue.events.name, request.job_id)
    letters = partition % reader.partitions(catalogue.dead_letters.name)
    if not wait_s:
        _send(session, request, partition, letters)
        return None
    answers = reader.follow(catalogue.sagas.name, None, [partition])
    refusals = reader.follow(catalogue.dead_letters.name, None, [letters])
    # Both are open before the request is sent: an answer can't be missed.
    next(answers)
    next(refusals)
    place = _send(session, request, partition, letters)
    give_up = time.monotonic() + wait_s
    while time.monotonic() < give_up:
        for record in _at_hand(answers):
            if (state := state_after(record, request.job_id, place.offset)) is not None:
                return _applied(state, place)
        for record in _at_hand(refusals):
            if (reason := refusal(record, place)) is not None:
                raise RequestRefused(f"the coordinator refused: {reason}")
    raise Unanswered(
        f"no answer within {wait_s:g} s: does a coordinator run? "
        f"The request stays on its topic until a coordinator runs; see `scrapesaga watch {request.job_id}`"
    )


def state_after(record: Record, job_id: str, offset: int) -> Mapping[str, Any] | None:
    """Return the state in a record, if it is the job's and has seen the event at the offset."""
    if record.value is None or record.key != job_id.encode():
        return None
    state = decode_saga_fields(record.value)
    return state if state["offset"] >= offset else None


def refusal(record: Record, place: RequestPosition) -> str | None:
    """Return why a request was set aside, if the record is the dead letter of that very request."""
    source = source_of(record.headers)
    if source is None or source[:3] != (place.topic, place.partition, place.offset):
        return None
    return source.reason


def _applied(state: Mapping[str, Any], place: RequestPosition) -> JobState:
    if state["offset"] == place.offset:
        return JobState(state)
    # Only what changes nothing leaves neither a state of its own nor a refusal.
    raise RequestRefused(f"the request changed nothing: job {state['job_id']} is {state['phase']} by now")


def _send(session: Session, request: OperatorRequest, partition: int, letters: int) -> RequestPosition:
    topic = session.catalogue.events.name
    sender = session.producer()
    value = encode_event(request, request_id=uuid.uuid4().hex)
    sender.send(topic, value, key=request.job_id.encode(), partition=partition)
    sender.finish()
    return RequestPosition(topic, partition, sender.last_offset, letters)


def _at_hand(records: Iterator[Record | None]) -> Iterator[Record]:
    for record in records:
        if record is None:
            return
        yield record
