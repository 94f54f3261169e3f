"""What an audit covers: the topics by their names, from where they are read, and what they may have lost by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from processors.saga.invariants import Violation
from topics.catalogue import Catalogue

ReportViolation = Callable[[Violation], None]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an audit begins. Events before `starts` (an offset for each partition) are not read.

    `history_ms` and `commands_ms` are the times up to which states and commands may have been removed from their topics.
    """

    catalogue: Catalogue
    starts: Mapping[int, int]
    since_ms: int = 0
    history_ms: int = 0
    commands_ms: int = 0
    events: str = field(init=False)
    sagas: str = field(init=False)
    dead_letters: str = field(init=False)
    records: str = field(init=False)
    command_topics: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        known = self.catalogue
        object.__setattr__(self, "events", known.events.name)
        object.__setattr__(self, "sagas", known.sagas.name)
        object.__setattr__(self, "dead_letters", known.dead_letters.name)
        object.__setattr__(self, "records", known.records.name)
        object.__setattr__(self, "command_topics", {step: known.commands(step).name for step in known.steps})

    def commands_of(self, step: str) -> str:
        """Return the topic of a step's commands; a step that has none on the broker gets the name it would have."""
        return self.command_topics.get(step) or f"{self.catalogue.prefix}.{step}.commands"
