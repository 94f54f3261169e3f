"""A small honest engine in memory, whose topics a test can tamper with before they are audited.

engine = Engine(seed=1)
engine.run(jobs=20)
engine.topics["scrape.sagas"]      # records, as they would lie on Kafka, in order
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from processors.errors import BadRecord
from processors.kafka.partitioner import partition_for
from processors.kafka.producer import Outgoing
from processors.kafka.record import Record
from processors.messages.dead_letters import dead_letter
from processors.messages.wire import decode_event, encode_command, encode_event, encode_saga
from processors.pipeline.plan_store import UnknownPlan
from processors.saga.commands import Reject, StepCommand
from processors.saga.events import (
    Cancelled,
    Compensated,
    CompensationFailed,
    Confirmed,
    ConfirmFailed,
    Event,
    Failed,
    Redriven,
    Resumed,
    ResumeMode,
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.plan import Plan, StepPlan
from processors.saga.protocol import advance
from processors.saga.state import ENDED, Action, Origin, Phase, Saga
from tests.sagas import START_MS, plan, step
from topics.catalogue import Catalogue

PARTITIONS = 2
UNFINISHED = frozenset({Phase.RUNNING, Phase.COMPENSATING})
CATALOGUE = Catalogue(partitions=PARTITIONS, steps=("fetch", "notify"))


def shop_plan() -> Plan:
    """Two steps: fetch, and notify, which publishes under the job's id."""
    steps: tuple[StepPlan, ...] = (step("fetch"), step("notify", use="notify"))
    return plan(steps, pipeline="shop", deadline_ms=0)


@dataclass
class Engine:
    """Intake, a coordinator and two workers, each honest, whose world fails at random."""

    seed: int = 0
    failures: float = 0.2
    plan: Plan = field(default_factory=shop_plan)
    topics: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    sagas: dict[str, Saga] = field(default_factory=dict)
    now: int = START_MS
    _next: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def plans(self, plan_hash: str) -> Plan:
        """Return the plan by its hash."""
        if plan_hash != self.plan.hash:
            raise UnknownPlan(plan_hash)
        return self.plan

    def append(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        partition: int | None = None,
    ) -> Record:
        """Append a record as a broker does, a millisecond after the last one."""
        self.now += 1
        number = partition_for(key, PARTITIONS) if partition is None else partition
        offset = self._next[topic, number]
        self._next[topic, number] = offset + 1
        record = Record(topic, number, offset, self.now, key, value, tuple(headers))
        self.topics[topic].append(record)
        return record

    # --- the engine ---------------------------------------------------------------------------------------------------

    def submit(self, job_id: str) -> list[StepCommand]:
        """Let a request be accepted and begun."""
        request = self.append("scrape.urls", b"", b'{"url": "http://x/"}', partition=0)
        event = Submitted(job_id, self.plan, "http://x/", b"", "content", Origin(0, request.offset), "label")
        return self.apply(event)

    def apply(self, event: Event) -> list[StepCommand]:
        """Append an event, and do as the coordinator does; return the commands that were sent."""
        record = self.append("scrape.events", event.job_id.encode(), encode_event(event))
        return self.coordinate(record)

    def coordinate(self, record: Record) -> list[StepCommand]:
        """Handle a record of the inbox."""
        key = record.key or b""
        try:
            event = decode_event(record.value, self.plans)
        except BadRecord as error:
            self._put(dead_letter(CATALOGUE.dead_letters, record, str(error), "coordinator"))
            return []
        before = self.sagas.get(event.job_id)
        decision = advance(before, record.offset, event, record.timestamp_ms)
        sent = []
        for command in decision.commands:
            if isinstance(command, Reject):
                self._put(dead_letter(CATALOGUE.dead_letters, record, command.reason, "coordinator"))
            else:
                self.append(f"scrape.{command.step}.commands", key, encode_command(command))
                sent.append(command)
        if decision.changed:
            if decision.saga is None:
                del self.sagas[event.job_id]
                self.append("scrape.sagas", key, None, [("seq", b"%d" % (before.seq if before else 0))])
            else:
                self.sagas[event.job_id] = decision.saga
                self.append("scrape.sagas", key, encode_saga(decision.saga))
        return sent

    def _put(self, outgoing: Outgoing) -> None:
        self.append(outgoing.topic, outgoing.key or b"", outgoing.value, outgoing.headers, partition=outgoing.partition)

    def work(self, command: StepCommand) -> Event:
        """Do what a command says, and return the answer."""
        where = (command.job_id, command.run, command.step, command.seq)
        fails = self.chance.random() < self.failures
        if fails:
            again = self.chance.random() < 0.5
            match command.action:
                case Action.EXECUTE:
                    return Failed(*where, "no", again, self.chance.random() < 0.5)
                case Action.COMPENSATE:
                    return CompensationFailed(*where, "no", not again)
                case Action.CONFIRM:
                    return ConfirmFailed(*where, "no", not again)
        headers = [("job_id", command.job_id.encode()), ("run", str(command.run).encode())]
        match command.action:
            case Action.EXECUTE:
                output = {}
                if command.step == "notify":
                    self.append("scrape.records", command.job_id.encode(), b"record", headers)
                    output = {"data": {"key": command.job_id}}
                return Succeeded(*where, msgspec.json.encode(output))
            case Action.COMPENSATE:
                if command.step == "notify":
                    self.append("scrape.records", command.job_id.encode(), None, headers)
                return Compensated(*where)
            case Action.CONFIRM:
                return Confirmed(*where)

    # --- a history ------------------------------------------------------------------------------------------------------

    def run(self, jobs: int) -> None:
        """Let some jobs run to their end, with cancels, timers, poison, late answers, redrives and forgotten sagas."""
        open_: list[StepCommand] = []
        for number in range(jobs):
            open_ += self.submit(f"job-{number}")
            self._fault()
        self._until_quiet(open_)
        for saga in list(self.sagas.values()):
            roll = self.chance.random()
            if saga.phase is Phase.PARKED and roll < 0.5:
                open_ += self.apply(Resumed(saga.job_id, ResumeMode.RETRY, "ann"))
            elif saga.phase in ENDED and roll < 0.3:
                open_ += self.apply(Redriven(saga.job_id, "fetch", self.plan, "ann"))
        self._until_quiet(open_)
        for saga in list(self.sagas.values()):
            if saga.phase in ENDED and self.chance.random() < 0.3:
                self.now = max(self.now, saga.due_ms)
                self.apply(TimedOut(saga.job_id, saga.seq))

    def _until_quiet(self, open_: list[StepCommand]) -> None:
        """Answer all commands in some order, and ring all timers, until every saga has ended or is parked."""
        while True:
            while open_:
                command = open_.pop(self.chance.randrange(len(open_)))
                saga = self.sagas.get(command.job_id)
                if saga is not None and saga.phase in UNFINISHED and self.chance.random() < self.failures / 4:
                    open_ += self._fire(saga)
                open_ += self.apply(self.work(command))
                self._fault()
            unfinished = [saga for saga in self.sagas.values() if saga.phase in UNFINISHED]
            if not unfinished:
                return
            for saga in unfinished:
                open_ += self._fire(saga)

    def _fire(self, saga: Saga) -> list[StepCommand]:
        self.now = max(self.now, saga.due_ms)
        return self.apply(TimedOut(saga.job_id, saga.seq))

    def _fault(self) -> None:
        if self.chance.random() < self.failures / 10:
            self.coordinate(self.append("scrape.events", b"poison", b"not an event"))
        if self.sagas and self.chance.random() < self.failures / 10:
            self.apply(Cancelled(self.chance.choice(sorted(self.sagas)), "ann"))
