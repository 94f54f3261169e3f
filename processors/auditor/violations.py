"""The invariants that can be judged from the topics alone."""

from __future__ import annotations

import re
from enum import StrEnum

from processors.kafka.record import Record
from processors.saga.invariants import LogPosition, Violation


class Invariant(StrEnum):
    """What the auditor judges by comparing records; the rules of a single decision come from saga/invariants.py."""

    FOLD = "state is the fold of its events"
    NO_GAPS = "seq without gaps"
    COMMAND = "same seq, same command"
    SENT = "a command is sent before its state is saved"
    FORGOTTEN = "nothing is forgotten before its end"
    READABLE = "what the engine writes can be read"
    RECORD_THERE = "a completed job has its record"
    RECORD_GONE = "a compensated job has no record"
    PAID_ONCE = "paid at most once per key"
    WITHIN_CAP = "spent within the cap"
    ONE_PAYLOAD = "one key, one payload"
    NOTHING_LOST = "nothing is lost"
    VISIBLE = "what is set aside is visible"
    GOES_ON = "no saga is stuck"


def position_of(record: Record) -> LogPosition:
    """Return where a record lies."""
    return LogPosition(record.topic, record.partition, record.offset)


def position_fields(violation: Violation) -> dict[str, object]:
    """Return where the record lies that shows a violation, as fields of a log line or of a JSON object."""
    return {} if violation.position is None else violation.position._asdict()


def label_of(rule: str) -> str:
    """Return an invariant as the value of a metric's label; their number is bounded by the code."""
    return re.sub(r"[^a-z0-9]+", "-", rule.lower()).strip("-")
