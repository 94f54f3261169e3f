"""The values that a world is made of, and what workers answer."""

from __future__ import annotations

from typing import NamedTuple

from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, Confirmed, Reply, Succeeded
from processors.saga.invariants import EventRecord
from processors.saga.state import Action, Saga


class Delivery(NamedTuple):
    """A command on its topic; `again` if an earlier worker may have begun it."""

    command: StepCommand
    again: bool = False


class WorkerMemory(NamedTuple):
    """What a step's worker process knows of the job: the last command's number and its reply."""

    seq: int = 0
    reply: Reply | None = None


class Applied(NamedTuple):
    """A record that was applied but not yet acknowledged, with the states before and after it."""

    before: Saga | None
    record: EventRecord
    after: Saga | None


def restored(newest: Saga | None, last_written: Saga | None) -> Saga | None:
    """Return the state that a new owner restores: the one with the highest seq, wherever it lies in the log."""
    if newest is None or last_written is None:
        return newest
    return max(newest, last_written, key=lambda saga: saga.seq)


def succeeded(command: StepCommand) -> Reply:
    """Return the reply of a command that worked."""
    where = (command.job_id, command.run, command.step, command.seq)
    match command.action:
        case Action.EXECUTE:
            return Succeeded(*where, b"{}")
        case Action.COMPENSATE:
            return Compensated(*where)
        case Action.CONFIRM:
            return Confirmed(*where)
