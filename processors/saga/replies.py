"""What a worker answers to a command that did not work."""

from __future__ import annotations

from processors.saga.commands import StepCommand
from processors.saga.events import CompensationFailed, ConfirmFailed, Failed, Reply
from processors.saga.state import Action


def failed(
    command: StepCommand, reason: str, *, retryable: bool = False, outcome_unknown: bool = False, after_ms: int = 0
) -> Reply:
    """Return the reply of a command that didn't work; `outcome_unknown` and `after_ms` as in Failed."""
    where = (command.job_id, command.run, command.step, command.seq)
    match command.action:
        case Action.EXECUTE:
            return Failed(*where, reason, retryable, outcome_unknown, after_ms)
        case Action.COMPENSATE:
            return CompensationFailed(*where, reason, retryable, after_ms)
        case Action.CONFIRM:
            return ConfirmFailed(*where, reason, retryable, after_ms)
