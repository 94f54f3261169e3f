"""What a record means that no event explains, though all events before it were read."""

from __future__ import annotations

from processors.auditor.jobs import AuditedJob
from processors.auditor.violations import Invariant, position_of
from processors.errors import BadRecord
from processors.kafka.record import Record
from processors.messages.wire import decode_command, decode_saga_fields
from processors.saga.invariants import Violation
from schemas.codec import message_name


def explain(record: Record, job: AuditedJob | None, starts: int, *, has_past: bool) -> Violation | None:
    """Return the promise that a record breaks; None if it may follow from events before the audit's beginning.

    `starts` is the first event that was read; `has_past` says that the job may have been there before, if it isn't known.
    """
    place, key = position_of(record), (record.key or b"").decode("utf-8", "replace")
    beyond = job is None and has_past
    if record.value is None:
        return (
            None
            if beyond
            else Violation(Invariant.FORGOTTEN, key, "a tombstone, and the events don't end the saga here", place)
        )
    is_state = message_name(record.value) == "saga_state"
    try:
        if is_state:
            state = decode_saga_fields(record.value)
            job_id, seq, offset = str(state["job_id"]), int(state["seq"]), int(state["offset"])
        else:
            command = decode_command(record.value)
            job_id, seq, offset = command.job_id, command.seq, starts
    except BadRecord as error:
        return Violation(Invariant.READABLE, key, str(error), place)
    rule = Invariant.FOLD if is_state else Invariant.COMMAND
    if job_id != key:
        return Violation(rule, key, f"it is of job {job_id}", place)
    if beyond or offset < starts or (job is not None and seq < job.first_seq):
        return None
    if job is None:
        return Violation(rule, key, f"seq {seq} of a job that was never submitted", place)
    known = {*job.seen.values(), *(one.seq for one in job.expected.values())}
    how = "this is not what follows from the events" if seq in known else "it follows from no event"
    return Violation(rule, key, f"seq {seq}: {how}", place)
