"""One event folded as the coordinator folds it, a decision that raises included."""

from __future__ import annotations

from typing import NamedTuple

from processors.kafka.record import Record
from processors.saga.commands import Note
from processors.saga.events import Event
from processors.saga.protocol import Decision, advance, poisoned
from processors.saga.state import Saga


class Folded(NamedTuple):
    """What an event makes of a saga; `raised` if deciding failed, and the job was parked or its event set aside."""

    decision: Decision
    raised: bool = False


def fold(saga: Saga | None, record: Record, event: Event) -> Folded:
    """Return what the coordinator makes of a record that it could decode."""
    try:
        return Folded(advance(saga, record.offset, event, record.timestamp_ms))
    except Exception as error:
        # What the coordinator does: the job is parked, and its partition goes on.
        if saga is None or record.offset <= saga.offset:
            return Folded(Decision(saga, (), Note.PARKED, False), raised=True)
        parked = poisoned(saga, record.offset, repr(error), record.timestamp_ms)
        return Folded(Decision(parked, (), Note.PARKED, parked is not saga), raised=True)
