"""Judges a history from outside once everything is at rest: the topics alone, and what stands at the steps' outsides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from processors.errors import BadRecord, ProtocolViolation
from processors.kafka.producer import partition_for
from processors.messages.dead_letters import source_of
from processors.messages.wire import decode_command, decode_event, encode_command, encode_saga
from processors.saga.commands import Note, StepCommand
from processors.saga.events import Event, Failed, Reply, Resumed, ResumeMode, Succeeded
from processors.saga.invariants import Effect, check_decision, check_rest
from processors.saga.plan import Plan
from processors.saga.protocol import Decision, advance, poisoned
from processors.saga.state import ENDED, Phase, Saga, idempotency_key
from processors.saga_table.changelog import seq_of
from processors.simulation.engine.environment import SimulatedEnvironment
from processors.simulation.engine.kafka import Stored
from processors.simulation.engine.step_models import Modelled
from processors.simulation.engine.view import View
from processors.simulation.rules.effects import EffectKind
from processors.step_model import StepModel
from topics.catalogue import Catalogue

_UNDECIDED = "deciding failed: "


@dataclass(slots=True)
class Fold:
    """What the inbox of one job makes of it."""

    saga: Saga | None = None
    life_run: int = 0
    excused: set[str] = field(default_factory=set)


class Checker:
    """Compares what was written with what should have been."""

    def __init__(
        self,
        environment: SimulatedEnvironment,
        plan: Plan,
        catalogue: Catalogue,
        view: View,
        models: Mapping[str, StepModel],
    ) -> None:
        self._environment = environment
        self._plan = plan
        self._catalogue = catalogue
        self._view = view
        self._models = models
        self._states: dict[tuple[bytes, int], Stored] = {}
        self._commands: dict[tuple[str, int], Stored] = {}
        #: Events that were set aside, by place, with the reason.
        self._set_aside: dict[tuple[int, int], str] = {}

    def judge(self, jobs: tuple[str, ...]) -> None:
        """Note every broken promise in the simulated environment."""
        self._read_states()
        self._read_commands()
        self._read_dead_letters()
        for job in jobs:
            fold = Fold()
            for record, event in self._inbox(job):
                self._apply(fold, record, event)
            self._compare(job, fold)
            self._check_effects(fold)

    # --- reading ------------------------------------------------------------------------------------------------

    def _logs(self, topic: str) -> Iterator[Stored]:
        for partition in range(self._environment.partitions):
            yield from self._environment.broker.logs[topic, partition]

    def _read_states(self) -> None:
        for record in self._logs(self._catalogue.sagas.name):
            if record.value is None:
                continue
            seq = seq_of(record.value)
            first = self._states.setdefault((record.key or b"", seq), record)
            if first.value != record.value:
                job = (record.key or b"").decode()
                self._environment.violate("same seq, same state", job, f"seq {seq} was saved otherwise")

    def _read_commands(self) -> None:
        answered = {self._address(event) for event in self._replies(self._catalogue.events.name)}
        for planned in self._plan.steps:
            traced = {self._address(event) for event in self._replies(self._catalogue.results(planned.name).name)}
            for record in self._logs(self._catalogue.commands(planned.name).name):
                try:
                    command = decode_command(record.value)
                except BadRecord:
                    continue
                address = command.job_id, command.seq
                first = self._commands.setdefault(address, record)
                if first.value != record.value:
                    self._environment.violate(
                        "same seq, same command", address[0], f"seq {address[1]} was sent otherwise"
                    )
                if address not in answered or address not in traced:
                    detail = f"{command.action.lower()} {planned.name}, seq {command.seq}, was not"
                    self._environment.violate("every command is answered", address[0], detail)

    def _replies(self, topic: str) -> Iterator[Reply]:
        for record in self._logs(topic):
            event = self._decoded(record)
            if isinstance(event, Reply):
                yield event

    @staticmethod
    def _address(event: Reply) -> tuple[str, int]:
        return event.job_id, event.seq

    def _read_dead_letters(self) -> None:
        topic = self._catalogue.dead_letters
        for partition in range(topic.partitions):
            for letter in self._environment.broker.logs[topic.name, partition]:
                source = source_of(letter.headers)
                if source is not None and source.topic == self._catalogue.events.name:
                    self._set_aside[source.partition, source.offset] = source.reason

    def _decoded(self, record: Stored) -> Event | None:
        try:
            return decode_event(record.value, lambda _: self._plan)
        except BadRecord:
            return None

    def _inbox(self, job: str) -> Iterator[tuple[Stored, Event]]:
        key = job.encode()
        for record in self._environment.broker.logs[
            self._catalogue.events.name, partition_for(key, self._environment.partitions)
        ]:
            if record.key == key and (event := self._decoded(record)) is not None:
                yield record, event

    # --- folding --------------------------------------------------------------------------------------------------

    def _apply(self, fold: Fold, record: Stored, event: Event) -> None:
        before = fold.saga
        reason = self._set_aside.get((record.partition, record.offset))
        if reason is not None and (
            isinstance(event, Succeeded) or (isinstance(event, Failed) and event.outcome_unknown)
        ):
            # A person settles what a dead letter reports.
            fold.excused.add(event.step)
        if reason is not None and reason.startswith(_UNDECIDED):
            if before is not None:
                fold.saga = poisoned(before, record.offset, reason.removeprefix(_UNDECIDED), record.timestamp)
            return
        try:
            decision = advance(before, record.offset, event, record.timestamp)
        except ProtocolViolation as error:
            self._environment.violate("no transition outside the table", event.job_id, str(error))
            return
        self._check(before, event, record, decision)
        fold.saga = decision.saga
        if before is None and decision.saga is not None:
            fold.life_run = decision.saga.run
        if decision.saga is None:
            fold.excused.clear()
        skips = isinstance(event, Resumed) and event.mode is ResumeMode.SKIP
        if skips and decision.changed and before is not None and before.phase is Phase.PARKED:
            fold.excused.update(before.plan.steps[place].name for place in before.in_flight)

    def _check(self, before: Saga | None, event: Event, record: Stored, decision: Decision) -> None:
        job = event.job_id
        for violation in check_decision(before, event, record.timestamp, decision):
            self._environment.violate(violation.rule, violation.job_id, violation.detail)
        if not decision.changed or decision.saga is None or decision.note is Note.REPEATED:
            return
        seq = decision.saga.seq
        saved = self._states.get((job.encode(), seq))
        if saved is None:
            self._environment.violate("every state is saved", job, f"seq {seq} was not")
            return
        if saved.value != encode_saga(decision.saga):
            self._environment.violate("state is the fold of its events", job, f"seq {seq} was saved otherwise")
        for command in decision.commands:
            if isinstance(command, StepCommand):
                self._check_command(command, saved)

    def _check_command(self, command: StepCommand, saved: Stored) -> None:
        what = f"{command.action.lower()} {command.step}, seq {command.seq}"
        sent = self._commands.get((command.job_id, command.seq))
        if sent is None:
            self._environment.violate("every command is sent", command.job_id, f"{what}, was not")
        elif sent.value != encode_command(command):
            self._environment.violate("same seq, same command", command.job_id, f"{what}, was sent otherwise")
        elif sent.order > saved.order:
            self._environment.violate("sent before saved", command.job_id, f"{what}, came after its state")

    # --- comparing ----------------------------------------------------------------------------------------------------

    def _compare(self, job: str, fold: Fold) -> None:
        expected = None if fold.saga is None else encode_saga(fold.saga)
        if self._view.value(job) != expected:
            self._environment.violate("state is the fold of its events", job, "scrape.sagas ends with another state")
        key, topic = job.encode(), self._catalogue.sagas.name
        last = [
            one
            for one in self._environment.broker.logs[topic, partition_for(key, self._environment.partitions)]
            if one.key == key
        ]
        if last and last[-1].value != expected:
            self._environment.violate("compaction keeps the newest state", job, "its last record is an older one")

    def _check_effects(self, fold: Fold) -> None:
        saga = fold.saga
        if saga is None or saga.phase not in ENDED:
            return
        effects: dict[str, Effect] = {}
        for planned in saga.plan.steps:
            model = self._models[planned.name]
            key = idempotency_key(saga.job_id, saga.run, planned.name)
            if not isinstance(model, Modelled):
                standing = model.standing(saga.job_id, saga.run, key)
                effects[planned.name] = Effect(standing, model.paid(saga.job_id, saga.run, key))
            elif model.kind is not EffectKind.NONE:
                ended_well = saga.phase is Phase.COMPLETED
                effects[planned.name] = model.effect(saga.job_id, saga.run, key, fold.life_run, ended_well)
        for violation in check_rest(saga, effects, fold.excused):
            self._environment.violate(violation.rule, violation.job_id, violation.detail)
