"""The promises that can be judged from the topics alone, and what is said of a broken one."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from processors.kafka.record import Record


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


class LogPosition(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}@{self.offset}"


def position_of(record: Record) -> LogPosition:
    """Return where a record lies."""
    return LogPosition(record.topic, record.partition, record.offset)


class Violation(NamedTuple):
    """One broken promise: which, of which job, shown by which record, and how."""

    rule: str
    job_id: str
    place: LogPosition
    detail: str

    def __str__(self) -> str:
        whose = f" of job {self.job_id}" if self.job_id else ""
        return f"{self.rule}: {self.place}{whose}: {self.detail}"


def label_of(rule: str) -> str:
    """Return a promise as the value of a metric's label; their number is bounded by the code."""
    return re.sub(r"[^a-z0-9]+", "-", rule.lower()).strip("-")
