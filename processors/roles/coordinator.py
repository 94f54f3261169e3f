"""The coordinator: folds scrape.events into sagas, commands steps, keeps the table.

The order is the promise. For each batch: decide everything in memory; send the commands and wait for Kafka to have them;
save the states and wait; only then acknowledge the events. A crash before the last step repeats the batch, and a repeated
event decides the same: the same commands with the same seq, which their receivers know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from processors.errors import BadRecord, ConfigurationError
from processors.kafka.producer import Outgoing
from processors.kafka.publish import Sender
from processors.kafka.record import Batch, Record
from processors.messages.dead_letters import contained, dead_letter
from processors.messages.wire import decode_event, decode_saga, encode_command, encode_event, encode_saga
from processors.observability import metrics
from processors.observability.tracing import Sink, command_headers, saga_span, trace_id_of
from processors.pipeline.plan_store import Plans, UnknownPlan
from processors.roles.saga_counts import UNFINISHED, SagaCounts
from processors.roles.timer_wheel import TimerWheel
from processors.saga.commands import Note, Reject, StepCommand
from processors.saga.events import Event, Reply, TimedOut
from processors.saga.moves import first_due
from processors.saga.protocol import Decision, advance_or_park
from processors.saga.state import ENDED, Action, Phase, Saga
from processors.saga_table.changelog import peek, plan_hash_of
from schemas.codec import message_name
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

# Number of decoded sagas in the cache: an active saga is used every few milliseconds, and decoding costs more than deciding.
CACHED_SAGAS = 20_000
# A timer that fires early by the broker's clock is re-armed for this time; clocks in a cluster differ by less.
EARLY_MS = 50
# The clock is checked this often even if no timer is due, because it may jump forward.
LOOK_EVERY = timedelta(milliseconds=250)

# As peek() returns them.
PHASES_BY_INDEX: tuple[Phase, ...] = tuple(Phase)
#: Phases that a saga in the table can be in.
PHASES: tuple[Phase, ...] = tuple(phase for phase in Phase if phase is not Phase.NEW)


# Changes of a batch in one partition: key -> state before, state after.
Changes = dict[bytes, tuple[Saga | None, Saga | None]]


class Table(Protocol):
    """The saga table as the coordinator uses it."""

    def get(self, key: bytes, partition: int) -> bytes | None:
        """Return the saved state of a job."""
        ...

    async def save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Save states (None: forget) in order; returns once the changelog has them."""
        ...


class _Counters:
    """The metrics of each event, looked up once, because a look-up costs more than an increment."""

    def __init__(self) -> None:
        self._transitions: dict[Note, Callable[[], None]] = {}
        self._commands: dict[tuple[str, Action], Callable[[], None]] = {}

    def transition(self, note: Note) -> None:
        """Count a decision."""
        count = self._transitions.get(note)
        if count is None:
            count = self._transitions[note] = metrics.transitions.labels(note).inc
        count()

    def command(self, step: str, action: Action) -> None:
        """Count a command."""
        count = self._commands.get((step, action))
        if count is None:
            count = self._commands[step, action] = metrics.commands.labels(step, action).inc
        count()


class Coordinator:
    """Drives the sagas of the partitions that this process owns."""

    def __init__(
        self,
        table: Table,
        producer: Sender,
        plans: Plans,
        catalogue: Catalogue,
        *,
        spans: Sink | None = None,
        clock: Callable[[], float] = time.time,
        look_every: timedelta = LOOK_EVERY,
    ) -> None:
        self._table = table
        self._producer = producer
        self._plans = plans
        self._events = catalogue.events.name
        self._dead_letters = catalogue.dead_letters
        self._catalogue = catalogue
        self._command_topics: dict[str, str] = {}
        self._cache: OrderedDict[bytes, Saga] = OrderedDict()
        self._timers: dict[int, TimerWheel] = {}
        self._saga_counts: dict[int, SagaCounts] = {}
        self._rearmed = asyncio.Event()
        self._spans = spans
        self._counters = _Counters()
        self._clock = clock
        self._look_every_s = look_every.total_seconds()
        self._show()

    def _show(self) -> None:
        """Compute the gauges at each scrape: between scrapes they cost nothing."""
        for phase in PHASES:
            metrics.sagas.labels(phase).set_function(partial(self._count_in, phase))
        for phase in UNFINISHED:
            metrics.oldest_seconds.labels(phase).set_function(partial(self._oldest_s, phase))
        metrics.armed_timers.set_function(lambda: sum(map(len, self._timers.values())))

    def _count_in(self, phase: Phase) -> int:
        return sum(saga_counts.counts[phase] for saga_counts in self._saga_counts.values())

    def _oldest_s(self, phase: Phase) -> float:
        began = [at for saga_counts in self._saga_counts.values() if (at := saga_counts.oldest_ms(phase)) is not None]
        # The clock of the broker may be ahead of this one.
        return max(0.0, (self._now_ms() - min(began)) / 1000) if began else 0.0

    # --- partitions come and go ---------------------------------------------------------------------------------

    def restored(self, partition: int, states: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuild the timers and the counts of a partition from its restored states."""
        timers = self._timers[partition] = TimerWheel()
        saga_counts = self._saga_counts[partition] = SagaCounts()
        unfinished: Counter[str] = Counter()
        for key, value in states:
            if message_name(value) != "saga_state":
                # Written by another client: the events of this job go to the dead-letter topic. Without this check, an
                # unknown phase would end this process at each restore.
                log.warning("the table has a record that is not a saga state", extra={"job_id": repr(key)[:200]})
                continue
            seq, due_ms, phase, started_ms = peek(value)
            timers.arm(key, seq, due_ms)
            current = PHASES_BY_INDEX[phase]
            saga_counts.enter(current, started_ms)
            if current not in ENDED:
                unfinished[plan_hash_of(value)] += 1
        self._refuse_missing_steps(unfinished)
        self._cache.clear()
        self._rearmed.set()

    def _refuse_missing_steps(self, unfinished: Mapping[str, int]) -> None:
        """Raise ConfigurationError if sagas in flight need a step that has no topics here any more."""
        served = set(self._catalogue.steps)
        for plan_hash, sagas in unfinished.items():
            try:
                plan = self._plans(plan_hash)
            except BadRecord:
                # Read again with the next event for one of these sagas.
                continue
            if missing := [step.name for step in plan.steps if step.name not in served]:
                names = ",".join(missing)
                raise ConfigurationError(
                    f"{sagas} sagas in flight follow plan {plan.hash} of pipeline {plan.pipeline}, whose steps {names} are "
                    f"in no pipeline any more. Set SCRAPESAGA_RETIRED_STEPS={names} for every process until they have "
                    f"ended, or put the steps back."
                )

    def revoked(self, partition: int) -> None:
        """Forget a partition that another process owns now."""
        self._timers.pop(partition, None)
        self._saga_counts.pop(partition, None)
        self._cache.clear()

    # --- events -------------------------------------------------------------------------------------------------

    async def handle(self, batch: Batch) -> None:
        """Apply a batch of events. Raises DeliveryFailed; then no event of the batch is acknowledged."""
        sending: list[Outgoing] = []
        saving: dict[int, list[tuple[bytes, bytes | None]]] = {}
        changed: dict[int, Changes] = {}
        for record in batch.records:
            await self._apply(record, sending, saving, changed)
        if sending:
            # Sent before saved: a crash in between repeats commands instead of losing them.
            await self._producer.send(sending)
        if saving:
            await asyncio.gather(*(self._save(p, items, changed[p]) for p, items in saving.items()))
        batch.done()

    async def _save(self, partition: int, items: Sequence[tuple[bytes, bytes | None]], changes: Changes) -> None:
        await self._table.save(partition, items)
        # At once: a later rebalance rebuilds the counts from the table, which has these states, and they must not count twice.
        for key, (before, after) in changes.items():
            self._settle(key, partition, before, after)

    async def _apply(
        self,
        record: Record,
        sending: list[Outgoing],
        saving: dict[int, list[tuple[bytes, bytes | None]]],
        changed: dict[int, Changes],
    ) -> None:
        key, partition = record.key or b"", record.partition
        changes = changed.setdefault(partition, {})
        try:
            event = await self._decode(record)
            if key in changes:
                first, saga = changes[key]
            else:
                first = saga = self._cached(key) or await self._load(record)
        except BadRecord as error:
            sending.append(self._set_aside(record, str(error)))
            return
        decision, failure = advance_or_park(saga, record.offset, event, record.timestamp_ms)
        if failure is not None:
            # One job must not stop its partition: it is parked, so that an operator sees it.
            log.error("the decision failed; the job is parked", extra={"job_id": event.job_id}, exc_info=failure)
            sending.append(self._set_aside(record, f"deciding failed: {failure!r}"))
            if not decision.changed:
                return
        self._count(decision, saga, event, record)
        for command in decision.commands:
            sending.append(self._outgoing(command, record))
        if decision.changed:
            after = decision.saga
            saving.setdefault(partition, []).append((key, None if after is None else encode_saga(after)))
            changes[key] = (first, after)

    async def _decode(self, record: Record) -> Event:
        try:
            event = contained("coordinator", record, decode_event, record.value, self._plans)
        except UnknownPlan:
            # Intake publishes a plan before the first event with its hash: if it isn't there, it doesn't exist.
            await self._plans.refresh()
            event = contained("coordinator", record, decode_event, record.value, self._plans)
        if event.job_id.encode() != record.key:
            raise BadRecord(f"the event is for job {event.job_id!r}, but its key is {record.key!r}")
        return event

    def _cached(self, key: bytes) -> Saga | None:
        saga = self._cache.get(key)
        if saga is not None:
            self._cache.move_to_end(key)
        return saga

    async def _load(self, record: Record) -> Saga | None:
        value = self._table.get(record.key or b"", record.partition)
        if value is None:
            return None
        try:
            return contained("coordinator", record, decode_saga, value, self._plans)
        except UnknownPlan:
            await self._plans.refresh()
            return contained("coordinator", record, decode_saga, value, self._plans)

    def _outgoing(self, command: StepCommand | Reject, record: Record) -> Outgoing:
        if isinstance(command, Reject):
            return self._set_aside(record, command.reason)
        topic = self._command_topics.get(command.step)
        if topic is None:
            topic = self._command_topics[command.step] = self._catalogue.commands(command.step).name
        self._counters.command(command.step, command.action)
        # Same key, partitioner and number of partitions: the command has the partition of the event.
        headers = command_headers(command) if command.trace else ()
        return Outgoing(topic, record.partition, record.key, encode_command(command), headers)

    def _set_aside(self, record: Record, reason: str) -> Outgoing:
        return dead_letter(self._dead_letters, record, reason, "coordinator")

    def _settle(self, key: bytes, partition: int, before: Saga | None, after: Saga | None) -> None:
        """Apply a saved change to the cache, the timers and the counts."""
        timers, saga_counts = self._timers.get(partition), self._saga_counts.get(partition)
        if timers is None or saga_counts is None:
            # The partition was revoked meanwhile: the next owner reads this state from the log.
            return
        if before is not None:
            timers.disarm(key, before.due_ms)
            saga_counts.leave(before.phase, before.started_ms)
        if after is not None:
            saga_counts.enter(after.phase, after.started_ms)
        if after is None:
            self._cache.pop(key, None)
            return
        timers.arm(key, after.seq, after.due_ms)
        self._rearmed.set()
        if after.phase in ENDED:
            # Seldom used again: keep the space for active sagas.
            self._cache.pop(key, None)
            return
        self._cache[key] = after
        if len(self._cache) > CACHED_SAGAS:
            self._cache.popitem(last=False)

    def _count(self, decision: Decision, before: Saga | None, event: Event, record: Record) -> None:
        note, saga = decision.note, decision.saga
        self._counters.transition(note)
        if note is Note.EARLY and isinstance(event, TimedOut) and saga is not None:
            wait = max(saga.due_ms - record.timestamp_ms, EARLY_MS)
            timers = self._timers.get(record.partition)
            if timers is not None:
                timers.arm(record.key or b"", saga.seq, self._now_ms() + wait)
                self._rearmed.set()
        if note is Note.LATE_EFFECT and isinstance(event, Reply):
            metrics.late_effects.labels(event.step).inc()
        if not decision.changed or saga is None:
            return
        step = _step_of(event, before, saga)
        match note:
            # Count a retry when its wait starts, not again when the wait is over.
            case Note.RETRYING if before is not None and not _ends_a_wait(before, event):
                metrics.retries.labels(step).inc()
            case Note.PARKED:
                metrics.parked.labels(step).inc()
            case Note.COMPLETED | Note.COMPENSATED:
                metrics.saga_seconds.labels(saga.phase).observe((saga.updated_ms - saga.started_ms) / 1000)
        if (before is None or before.phase is not saga.phase) and saga.phase is not Phase.RUNNING:
            self._report_phase(saga, step)

    def _report_phase(self, saga: Saga, step: str) -> None:
        """Log a change of phase, and end the saga's span."""
        if saga.trace and self._spans is not None:
            saga_span(self._spans, saga)
        # Completion is expected, a thousand times per second: it is counted, and logged at info only if the saga is traced.
        level = logging.DEBUG if saga.phase is Phase.COMPLETED and not saga.trace else logging.INFO
        if log.isEnabledFor(level):
            about = {"job_id": saga.job_id, "run": saga.run, "seq": saga.seq, "step": step, "reason": saga.reason}
            if saga.trace:
                about["trace_id"] = trace_id_of(saga.trace)
            log.log(level, "saga %s", saga.phase.lower(), extra=about)

    # --- time -----------------------------------------------------------------------------------------------------

    async def fire_timers(self) -> None:
        """Send TimedOut for each timer that is due, until cancelled. The table changes only when the event is read back."""
        while True:
            self._rearmed.clear()
            sending = [
                Outgoing(self._events, partition, key, encode_event(TimedOut(key.decode(), seq)))
                for partition, timers in self._timers.items()
                for key, seq in timers.due(self._now_ms())
            ]
            if sending:
                await self._producer.send(sending)
                continue
            await self._sleep_until_due()

    async def _sleep_until_due(self) -> None:
        upcoming = [at for timers in self._timers.values() if (at := timers.next_ms()) is not None]
        if not upcoming:
            await self._rearmed.wait()
            return
        wait = (min(upcoming) - self._now_ms()) / 1000
        if wait > 0:
            # At high load timers are armed all the time; a wake-up for each would cost more than the precision is worth.
            await asyncio.sleep(min(wait, 0.05) if self._rearmed.is_set() else min(wait, self._look_every_s))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _ends_a_wait(before: Saga, event: Event) -> bool:
    """True if the event is the timer of a waiting retry, which was counted when its wait began."""
    return isinstance(event, TimedOut) and not first_due(before)[1].command_seq


def _step_of(event: Event, before: Saga | None, saga: Saga) -> str:
    """Return the step that an event was about, for labels and log lines."""
    if isinstance(event, Reply):
        return event.step
    if isinstance(event, TimedOut) and before is not None and before.in_flight:
        return before.plan.steps[first_due(before)[0]].name
    places = saga.in_flight
    return saga.plan.steps[places[0]].name if places else saga.failed_step
