"""Puts an operator's request into the log, and says what the coordinator made of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from processors.cli.context import Context
from processors.cli.errors import CommandRefused, Unanswered
from processors.kafka.record import Record
from processors.kafka.sync_producer import SyncProducer
from processors.messages.dead_letters import source_of
from processors.messages.wire import decode_saga_fields, encode_event
from processors.operations.queries import job_partition
from processors.saga.events import Cancelled, Redriven, Resumed

OperatorRequest = Cancelled | Resumed | Redriven

# A coordinator answers within milliseconds; one that takes over from another, within some ten seconds.
WAIT_S = 30.0

Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the coordinator's answer.", metavar="SECONDS")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return when Kafka has the request; do not wait for the answer.")
]


@dataclass(frozen=True, slots=True)
class RequestPosition:
    """Where a request lies in the log of events; `letters` is the partition that it would be set aside in."""

    topic: str
    partition: int
    offset: int
    letters: int


def ask(context: Context, request: OperatorRequest, wait_s: float) -> Mapping[str, Any] | None:
    """Send a request and return the state that it led to; None if `wait_s` is 0, which waits for nothing but Kafka.

    Raises CommandRefused with the coordinator's reason, or Unanswered if none answers in time: the request stands.
    """
    catalogue, reader = context.catalogue, context.reader
    partition = job_partition(reader, catalogue.events.name, request.job_id)
    letters = partition % reader.partitions(catalogue.dead_letters.name)
    if not wait_s:
        _send(context, request, partition, letters)
        return None
    answers = reader.follow(catalogue.sagas.name, None, [partition])
    refusals = reader.follow(catalogue.dead_letters.name, None, [letters])
    # Both are open before the request is sent: an answer can't be missed.
    next(answers)
    next(refusals)
    place = _send(context, request, partition, letters)
    give_up = time.monotonic() + wait_s
    while time.monotonic() < give_up:
        for record in _at_hand(answers):
            if (state := state_after(record, request.job_id, place.offset)) is not None:
                return _applied(state, place)
        for record in _at_hand(refusals):
            if (reason := refusal(record, place)) is not None:
                raise CommandRefused(f"the coordinator refused: {reason}")
    raise Unanswered(
        f"no answer within {wait_s:g} s: is a coordinator running? "
        f"The request is kept, and answered once one runs; see `scrapesaga watch {request.job_id}`"
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


def _applied(state: Mapping[str, Any], place: RequestPosition) -> Mapping[str, Any]:
    if state["offset"] == place.offset:
        return state
    # Only what changes nothing leaves neither a state of its own nor a refusal.
    raise CommandRefused(f"it changed nothing: job {state['job_id']} is {state['phase']} by now")


def _send(context: Context, request: OperatorRequest, partition: int, letters: int) -> RequestPosition:
    topic = context.catalogue.events.name
    sender = SyncProducer(context.client)
    value = encode_event(request, request_id=uuid.uuid4().hex)
    sender.send(topic, value, key=request.job_id.encode(), partition=partition)
    sender.finish()
    return RequestPosition(topic, partition, sender.last_offset, letters)


def _at_hand(records: Iterator[Record | None]) -> Iterator[Record]:
    for record in records:
        if record is None:
            return
        yield record
