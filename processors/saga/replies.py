"""The reply of a worker to a command that failed."""

from __future__ import annotations

from processors.saga.commands import StepCommand
from processors.saga.events import CompensationFailed, ConfirmFailed, Failed, Reply
from processors.saga.reason import bounded_reason
from processors.saga.state import Action

_LONGEST_WAIT_MS = 10 * 365 * 86_400_000


def failed(
    command: StepCommand, reason: str, *, retryable: bool = False, outcome_unknown: bool = False, after_ms: int = 0
) -> Reply:
    """Return the reply to a command that failed; `outcome_unknown` and `after_ms` as in Failed."""
    reason = bounded_reason(reason)
    # A server may ask for a wait that does not fit into the field.
    after_ms = min(after_ms, _LONGEST_WAIT_MS)
    where = (command.job_id, command.run, command.step, command.seq)
    match command.action:
        case Action.EXECUTE:
            return Failed(*where, reason, retryable, outcome_unknown, after_ms)
        case Action.COMPENSATE:
            return CompensationFailed(*where, reason, retryable, after_ms)
        case Action.CONFIRM:
            return ConfirmFailed(*where, reason, retryable, after_ms)
