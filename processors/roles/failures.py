"""What an exception of an attempt means to the engine: whether another attempt may help, and what is known of the effect."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from processors.errors import ConfigurationError, RetryLater, StepFailed
from processors.kafka.producer import RecordTooLarge
from processors.pipeline.plan_store import UnknownPlan
from processors.redaction.secret_search import redact_known
from processors.saga.commands import StepCommand
from processors.saga.events import Reply
from processors.saga.replies import failed


class Failure(NamedTuple):
    """An attempt that did not work; `expected` is false for an exception that says nothing about retry or failure."""

    reason: str
    retryable: bool = False
    outcome_unknown: bool = False
    after: timedelta | None = None
    expected: bool = True

    def reply(self, command: StepCommand) -> Reply:
        """Return the reply that tells the coordinator."""
        after_ms = max(0, self.after // timedelta(milliseconds=1)) if self.after else 0
        # A step of one's own may quote what it was answered, and that what it was sent.
        return failed(
            command,
            redact_known(self.reason),
            retryable=self.retryable,
            outcome_unknown=self.outcome_unknown,
            after_ms=after_ms,
        )


def failure_of(error: Exception) -> Failure:
    """Return what an attempt's exception means. DeliveryFailed is not the attempt's but the process's: don't ask."""
    match error:
        case TimeoutError():
            return Failure("the attempt ran out of time", retryable=True, outcome_unknown=True)
        case StepFailed():
            return Failure(error.reason, outcome_unknown=error.effect_unknown)
        case RetryLater():
            return Failure(error.reason, retryable=True, outcome_unknown=error.effect_unknown, after=error.after)
        case RecordTooLarge():
            # Nothing of it was sent; what the step did before may stand.
            return Failure(str(error), outcome_unknown=True)
        case ConfigurationError() | UnknownPlan():
            # A worker that lacks a plugin or a secret is mended by a person; the retries give them time.
            return Failure(f"{type(error).__name__}: {error}", retryable=True)
        case _:
            return unexpected(error)


def unexpected(error: Exception) -> Failure:
    """Return the failure that an exception is which nobody has foreseen."""
    return Failure(f"unexpected error: {error!r}", retryable=True, outcome_unknown=True, expected=False)
