"""What can go wrong, by name, and how much of it a history may have."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class RuleFault(StrEnum):
    """One kind of fault, or of interference by a person or a client."""

    STEP_FAILS = "a step fails for good"
    STEP_RETRIES = "a step asks for a retry"
    STEP_RETRIES_LATER = "a step asks for a retry, with Retry-After"
    UNKNOWN_DONE = "an outcome is unknown, the effect is there"
    UNKNOWN_NOT_DONE = "an outcome is unknown, there is no effect"
    UNDO_FAILS = "a compensation or confirmation fails"
    UNDO_GIVES_UP = "a compensation or confirmation can't work"
    CRASH_BEFORE_EFFECT = "a worker crashes before the effect"
    CRASH_AFTER_EFFECT = "a worker crashes between effect and reply"
    CRASH_AFTER_REPLY = "a worker crashes between reply and commit"
    HANG = "a worker hangs and answers late"
    ZOMBIE = "a worker is replaced while it hangs, and wakes later"
    TIMEOUT = "a timer rings while an answer is outstanding"
    EARLY_TIMER = "a timer rings early"
    DEADLINE = "the saga runs out of time"
    UNSAVED = "the coordinator crashes between sending and saving"
    UNACKNOWLEDGED = "the coordinator crashes between saving and acknowledging"
    ZOMBIE_COORDINATOR = "a coordinator that was replaced goes on from an old state"
    POISON = "deciding an event raises"
    SUBMITTED_AGAIN = "a submission is delivered again"
    SUBMITTED_TWICE = "the same request is submitted twice"
    OTHER_CONTENT = "another request comes under the same job_id"
    REPLY_REPEATED = "a reply is delivered again"
    CANCEL = "an operator cancels"
    RETRY_BY_HAND = "an operator resumes"
    SKIP_BY_HAND = "an operator skips"
    REDRIVE = "an operator redrives"
    FORGET = "the retention ends"


class Limit(StrEnum):
    """What a budget counts: faults that use it up together."""

    FAILURES = "failures"
    UNDO_FAILURES = "undo_failures"
    CRASHES = "crashes"
    LATE = "late"
    TIME = "time"
    COORDINATOR = "coordinator"
    DUPLICATES = "duplicates"
    CANCELS = "cancels"
    OPERATORS = "operators"
    LIVES = "lives"


LIMIT_OF: Mapping[RuleFault, Limit] = MappingProxyType(
    {
        RuleFault.STEP_FAILS: Limit.FAILURES,
        RuleFault.STEP_RETRIES: Limit.FAILURES,
        RuleFault.STEP_RETRIES_LATER: Limit.FAILURES,
        RuleFault.UNKNOWN_DONE: Limit.FAILURES,
        RuleFault.UNKNOWN_NOT_DONE: Limit.FAILURES,
        RuleFault.UNDO_FAILS: Limit.UNDO_FAILURES,
        RuleFault.UNDO_GIVES_UP: Limit.UNDO_FAILURES,
        RuleFault.CRASH_BEFORE_EFFECT: Limit.CRASHES,
        RuleFault.CRASH_AFTER_EFFECT: Limit.CRASHES,
        RuleFault.CRASH_AFTER_REPLY: Limit.CRASHES,
        RuleFault.HANG: Limit.LATE,
        RuleFault.ZOMBIE: Limit.LATE,
        RuleFault.TIMEOUT: Limit.TIME,
        RuleFault.EARLY_TIMER: Limit.TIME,
        RuleFault.DEADLINE: Limit.TIME,
        RuleFault.UNSAVED: Limit.COORDINATOR,
        RuleFault.UNACKNOWLEDGED: Limit.COORDINATOR,
        RuleFault.ZOMBIE_COORDINATOR: Limit.COORDINATOR,
        RuleFault.POISON: Limit.COORDINATOR,
        RuleFault.SUBMITTED_AGAIN: Limit.DUPLICATES,
        RuleFault.SUBMITTED_TWICE: Limit.DUPLICATES,
        RuleFault.OTHER_CONTENT: Limit.DUPLICATES,
        RuleFault.REPLY_REPEATED: Limit.DUPLICATES,
        RuleFault.CANCEL: Limit.CANCELS,
        RuleFault.RETRY_BY_HAND: Limit.OPERATORS,
        RuleFault.SKIP_BY_HAND: Limit.OPERATORS,
        RuleFault.REDRIVE: Limit.OPERATORS,
        RuleFault.FORGET: Limit.LIVES,
    }
)

#: How much of each a random history may have.
GENEROUS: Mapping[Limit, int] = MappingProxyType(
    {
        Limit.FAILURES: 3,
        Limit.UNDO_FAILURES: 3,
        Limit.CRASHES: 3,
        Limit.LATE: 3,
        Limit.TIME: 4,
        Limit.COORDINATOR: 3,
        Limit.DUPLICATES: 3,
        Limit.CANCELS: 1,
        Limit.OPERATORS: 3,
        Limit.LIVES: 1,
    }
)
