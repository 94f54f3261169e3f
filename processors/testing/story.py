"""What became of a job in `run_pipeline`: every event, state and command, what was published, and what stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from processors.saga.commands import StepCommand
from processors.saga.events import Event
from processors.saga.plan import Plan
from processors.saga.state import Action, Phase, Saga
from processors.spend.book import SpendEntry
from processors.step import Json, StepOutput
from processors.testing.memory import MemoryRecord
from processors.testing.warehouse import Row


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One event: when it came in virtual time, the state that it led to, the commands that followed."""

    at: timedelta
    event: Event
    saga: Saga
    commands: tuple[StepCommand, ...]
    refused: str = ""

    def __str__(self) -> str:
        fields = [type(self.event).__name__]
        step = getattr(self.event, "step", "")
        if step:
            fields.append(f"{step} (seq {getattr(self.event, 'seq', 0)})")
        if reason := getattr(self.event, "reason", "") or self.refused:
            fields.append(f"[{reason}]")
        asked = ", ".join(f"{one.action} {one.step} (seq {one.seq}, attempt {one.attempt})" for one in self.commands)
        arrow = f" -> {asked}" if asked else ""
        return f"{self.at.total_seconds():10.3f} s  {' '.join(fields)}: {self.saga.phase}{arrow}"


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands of one job outside; false if nothing does.

    `pages` are archived pages and `records` published ones that no tombstone took back, `rows` those in a
    MemoryWarehouse that are not deleted, `paid` the paid calls whose results the job uses, `outside` how many effects
    each step model counts.
    """

    pages: tuple[MemoryRecord, ...] = ()
    records: tuple[MemoryRecord, ...] = ()
    rows: tuple[Row, ...] = ()
    paid: tuple[SpendEntry, ...] = ()
    outside: Mapping[str, int] | None = None

    def __bool__(self) -> bool:
        return bool(self.pages or self.records or self.rows or self.paid or any((self.outside or {}).values()))

    def __str__(self) -> str:
        found = [
            *(f"page {page.key.decode()}" for page in self.pages),
            *(f"record {record.key.decode(errors='replace')}" for record in self.records),
            *(f"row {dict(row)}" for row in self.rows),
            *(f"paid call {entry.key} ({entry.state})" for entry in self.paid),
            *(f"{count} effects of {step}" for step, count in (self.outside or {}).items() if count),
        ]
        return "; ".join(found) or "nothing"


@dataclass(frozen=True, slots=True)
class RaisedError:
    """What a step's own code raised, in its order: injected faults are not among them."""

    step: str
    action: Action
    attempt: int
    error: Exception


@dataclass(frozen=True, slots=True)
class PipelineStory:
    """One job from its submission until nothing more happens; `str` tells it line by line.

    `outputs` holds what each step returned, `spent` how much the spend ledger grew, `took` how much virtual time passed.
    """

    plan: Plan
    lines: tuple[StoryLine, ...]
    outputs: Mapping[str, StepOutput]
    published: tuple[MemoryRecord, ...]
    standing: Standing
    spent: Decimal
    errors: tuple[RaisedError, ...]
    took: timedelta

    @property
    def saga(self) -> Saga:
        """The last state."""
        return self.lines[-1].saga

    @property
    def phase(self) -> Phase:
        """Where the job ended: COMPLETED, COMPENSATED, or PARKED for a person."""
        return self.saga.phase

    @property
    def reason(self) -> str:
        """Why it failed or was parked; empty if it completed."""
        return self.saga.reason

    @property
    def failed_step(self) -> str:
        """The step at which the run was given up; empty if it was not."""
        return self.saga.failed_step

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that happened to the saga."""
        return tuple(line.event for line in self.lines)

    @property
    def states(self) -> tuple[Saga, ...]:
        """The states that followed each other, one for each that differs from the one before it."""
        states = [line.saga for line in self.lines]
        return tuple(saga for place, saga in enumerate(states) if not place or saga != states[place - 1])

    @property
    def commands(self) -> tuple[StepCommand, ...]:
        """Everything that was asked of the steps."""
        return tuple(command for line in self.lines for command in line.commands)

    def asked(self, action: Action) -> tuple[str, ...]:
        """Return the steps that were asked for an action, in order, attempt by attempt."""
        return tuple(command.step for command in self.commands if command.action is action)

    @property
    def record(self) -> Mapping[str, Json]:
        """The record as the steps made it together."""
        record: dict[str, Json] = {}
        for output in self.outputs.values():
            record.update(output.record)
        return record

    def records(self, topic: str) -> tuple[MemoryRecord, ...]:
        """Return what the job published to a topic by its short name, tombstones too."""
        return tuple(record for record in self.published if record.topic == topic)

    def __str__(self) -> str:
        saga = self.saga
        why = (
            f", at {saga.failed_step}: {saga.reason}" if saga.failed_step else f": {saga.reason}" if saga.reason else ""
        )
        head = f"job {saga.job_id} of pipeline {self.plan.pipeline} {saga.phase}{why}; what stands: {self.standing}"
        return "\n".join((head, *map(str, self.lines)))
