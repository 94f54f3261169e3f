"""Audits the sagas of one partition: what the topics hold of each has to be what its events make of it, byte for byte.

Events are folded by the coordinator's own rules, and what follows from them is expected on the topics. The coordinator
sends commands before it saves their state, and saves states in the order of their events. So a state that was not there
when a later one came is lost, and a command that was not there when its state came was never sent.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

from processors.auditor.jobs import AuditedJob, ExpectedRecord, Jobs, fingerprint
from processors.auditor.orphans import explain
from processors.auditor.scope import ReportViolation, Scope
from processors.auditor.violations import Invariant, position_of
from processors.auditor.watermark import Moment, Waiting, Watermark
from processors.errors import BadRecord
from processors.kafka.record import Record
from processors.messages.reencode import reencoded
from processors.messages.wire import FindPlan, decode_event, decode_saga, encode_command, encode_saga
from processors.pipeline.plan_store import UnknownPlan
from processors.roles.timer_wheel import TimerWheel
from processors.saga.commands import Note, StepCommand, outstanding
from processors.saga.events import Event, Submitted
from processors.saga.invariants import LogPosition, Violation, check_decision
from processors.saga.protocol import advance_or_park
from processors.saga.state import ENDED, Saga
from processors.saga_table.changelog import seq_in

# A timer rings within a second of its time. One that is silent for this long has nobody who rings it.
STUCK_MS = 120_000
# Events of a job whose state isn't known yet: it comes within milliseconds, unless it never does.
PENDING_EVENTS = 50
# Dead letters whose events were not read yet; both come within moments of each other.
LETTERS_KEPT = 200_000

#: Told of each run's end once its state was seen on its topic.
Ended = Callable[[Saga, Moment], None]
#: Told of each submission.
Accepted = Callable[[Submitted, Moment], None]


@dataclass(slots=True)
class AuditCounts:
    """What was judged, and what couldn't be."""

    events: int = 0
    unreadable: int = 0
    states: int = 0
    commands: int = 0
    repeats: int = 0
    """Records that a topic holds once more, exactly as they were."""
    accepted: int = 0
    forgotten: int = 0
    unjudged: int = 0
    expired: int = 0
    """What follows from the events, isn't there, and may have been removed by now."""
    pending: int = 0
    """What follows from events behind the last whose state was seen: not written yet."""

    def __add__(self, other: AuditCounts) -> AuditCounts:
        return AuditCounts(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


class SagaAudit:
    """One partition of the events, with the same partition of the states and commands."""

    def __init__(
        self,
        partition: int,
        scope: Scope,
        watermark: Watermark,
        plans: FindPlan,
        report: ReportViolation,
        on_end: Ended,
        on_accept: Accepted,
    ) -> None:
        self.counts = AuditCounts()
        self.stuck: set[str] = set()
        self._partition = partition
        self._scope = scope
        self._starts = scope.starts.get(partition, 0)
        self._watermark = watermark
        self._plans = plans
        self._report = report
        self._followed = frozenset(scope.command_topics.values())
        self._on_end = on_end
        self._on_accept = on_accept
        # What was read before the event that it follows from.
        self._early: dict[str, dict[bytes, Record]] = {}
        self.jobs = Jobs(whole=self._starts == 0, on_forget=self._forget)
        # The last event whose state was seen.
        self._decided = -1
        self._orphan_records: Waiting[tuple[str, bytes]] = Waiting()
        # What must be there by now: states by the offset of their event, commands once their state was seen.
        self._states_due: deque[tuple[int, str, bytes]] = deque()
        self._commands_due: Waiting[tuple[str, bytes, LogPosition]] = Waiting()
        self._set_aside: deque[tuple[int, str]] = deque()
        self._letters: OrderedDict[int, None] = OrderedDict()
        self._letters_due: Waiting[tuple[int, str]] = Waiting()
        self._timers = TimerWheel()

    @property
    def ahead(self) -> int:
        """How many states are expected that were not seen yet."""
        return len(self._states_due)

    @property
    def behind(self) -> int:
        """How many records were seen whose events were not."""
        return len(self._orphan_records)

    def seed(self, saga: Saga) -> None:
        """Take over a saga in flight whose events lie before the audit's beginning."""
        job = self.jobs.add(saga.job_id, AuditedJob(saga, first_seq=saga.seq + 1))
        self._arm(job)

    # --- events -------------------------------------------------------------------------------------------------------

    def event(self, record: Record, moment: Moment) -> None:
        """Fold an event. Raises UnknownPlan if its plan was not read yet: read plans, and call again."""
        try:
            event = decode_event(record.value, self._plans)
            if event.job_id.encode() != record.key:
                raise BadRecord("its key is another job's")
        except UnknownPlan:
            raise
        except BadRecord:
            self.unreadable(record)
            return
        self.counts.events += 1
        if isinstance(event, Submitted):
            self._on_accept(event, moment)
        job = self.jobs.get(event.job_id)
        if job is None:
            job = self.jobs.add(
                event.job_id, AuditedJob(pending_events=[] if self.jobs.has_past(event.job_id) else None)
            )
        if job.pending_events is None:
            self._fold(job, record, event)
        elif len(job.pending_events) < PENDING_EVENTS:
            job.pending_events.append(record)
            for early in list(self._early.get(event.job_id, {}).values()):
                self._take_over(event.job_id, job, early)

    def unreadable(self, record: Record) -> None:
        """Note an event that the coordinator can't read either."""
        self.counts.events += 1
        self.counts.unreadable += 1
        self._set_aside.append((record.offset, ""))

    def _fold(self, job: AuditedJob, record: Record, event: Event) -> None:
        before = job.saga
        decision, error = advance_or_park(before, record.offset, event, record.timestamp_ms)
        if error is None and decision.note is not Note.REPEATED:
            for violation in check_decision(before, event, record.timestamp_ms, decision):
                self._report(Violation(violation.rule, violation.job_id, violation.detail, position_of(record)))
        if error is not None:
            self._set_aside.append((record.offset, event.job_id))
        for command in decision.commands:
            if isinstance(command, StepCommand):
                self.counts.commands += 1
                gone = record.timestamp_ms < self._scope.commands_ms
                topic = self._scope.commands_of(command.step)
                self._expect(
                    event.job_id,
                    job,
                    encode_command(command),
                    ExpectedRecord(topic, command.seq, record.offset, False, gone),
                )
            else:
                self._set_aside.append((record.offset, event.job_id))
        if not decision.changed:
            return
        if before is None and decision.note is Note.STARTED:
            self.counts.accepted += 1
        gone = record.timestamp_ms < self._scope.history_ms
        after = decision.saga
        job.saga = after
        if after is not None:
            self.counts.states += 1
            saved, seq = encode_saga(after), after.seq
        else:
            seq = before.seq if before is not None else 0
            saved = _tombstone(seq)
            self.counts.forgotten += 1
        self._expect(event.job_id, job, saved, ExpectedRecord(self._scope.sagas, seq, record.offset, True, gone))
        if before is not None:
            self._timers.disarm(event.job_id.encode(), before.due_ms)
        self.stuck.discard(event.job_id)
        self._arm(job)
        self.jobs.moved(event.job_id, job, before)

    def _arm(self, job: AuditedJob) -> None:
        if job.saga is not None and job.saga.phase not in ENDED:
            self._timers.arm(job.saga.job_id.encode(), job.saga.seq, job.saga.due_ms)

    def _expect(self, job_id: str, job: AuditedJob, value: bytes, expected: ExpectedRecord) -> None:
        mark = fingerprint(expected.topic, value)
        if mark in job.seen or mark in job.expected:
            return
        job.expected[mark] = expected
        if expected.is_state:
            self._states_due.append((expected.offset, job_id, mark))
        early = self._early.get(job_id)
        if early is not None and (record := early.pop(mark, None)) is not None:
            if not early:
                del self._early[job_id]
            # It has waited: its moment is long ago.
            self._saw(job_id, job, mark, record, Moment(record.timestamp_ms, self._watermark.records_read))

    # --- what the topics hold -----------------------------------------------------------------------------------------

    def written(self, record: Record, moment: Moment) -> None:
        """Take a record of the states, or of a step's commands."""
        job_id = (record.key or b"").decode("utf-8", "replace")
        mark = fingerprint(record.topic, _said(record))
        job = self.jobs.get(job_id)
        if job is not None:
            if mark in job.expected:
                self._saw(job_id, job, mark, record, moment)
                return
            if mark in job.seen:
                self.counts.repeats += 1
                return
            if self._take_over(job_id, job, record):
                return
        early = self._early.setdefault(job_id, {})
        if mark in early:
            self.counts.repeats += 1
            return
        early[mark] = record
        self._orphan_records.add(self._scope.events, self._partition, moment, (job_id, mark))

    def _saw(self, job_id: str, job: AuditedJob, mark: bytes, record: Record, moment: Moment) -> None:
        expected = job.expected.pop(mark)
        job.seen[mark] = expected.seq
        if not expected.is_state:
            return
        self._others_are_due(expected.offset, record, moment)
        for other, one in job.expected.items():
            if one.is_state or one.seq != expected.seq or one.may_be_gone:
                continue
            if one.topic not in self._followed:
                # A step that came after the audit began.
                self.counts.unjudged += 1
            else:
                self._commands_due.add(one.topic, self._partition, moment, (job_id, other, position_of(record)))
        saga = job.saga
        if saga is not None and saga.seq == expected.seq and saga.phase in ENDED:
            self._on_end(saga, moment)

    def _others_are_due(self, offset: int, record: Record, moment: Moment) -> None:
        """A state was seen: those of earlier events must have been there before it, dead letters too."""
        self._decided = max(self._decided, offset)
        while self._states_due and self._states_due[0][0] <= offset:
            at, job_id, mark = self._states_due.popleft()
            job = self.jobs.get(job_id)
            lost = None if job is None else job.expected.get(mark)
            if job is None or lost is None:
                continue
            if at == offset:
                # A restarted log may hold two states of one event only if one of them is no fold of it.
                continue
            del job.expected[mark]
            job.seen[mark] = lost.seq
            if lost.may_be_gone:
                self.counts.expired += 1
            else:
                detail = f"the state before it, seq {lost.seq} of event {at}, is on no topic"
                self._break(Invariant.NO_GAPS, job_id, position_of(record), detail)
        while self._set_aside and self._set_aside[0][0] < offset:
            letter = self._set_aside.popleft()
            topic = self._scope.catalogue.dead_letters
            self._letters_due.add(topic.name, self._partition % topic.partitions, moment, letter)

    def letter(self, offset: int) -> None:
        """Take a dead letter of an event."""
        self._letters[offset] = None
        if len(self._letters) > LETTERS_KEPT:
            self._letters.popitem(last=False)

    def _take_over(self, job_id: str, job: AuditedJob, record: Record) -> bool:
        """Begin with the first state that is seen of a job whose past isn't known; True if this was it."""
        if job.pending_events is None or record.topic != self._scope.sagas or record.value is None:
            return False
        try:
            saga = decode_saga(record.value, self._plans)
        except BadRecord:
            return False
        if saga.job_id != job_id or all(one.offset != saga.offset for one in job.pending_events):
            return False
        waiting, job.pending_events = job.pending_events, None
        mark = fingerprint(record.topic, reencoded(record.value))
        self._early.get(job_id, {}).pop(mark, None)
        self.counts.unjudged += 1
        job.saga, job.first_seq = saga, saga.seq
        job.seen[mark] = saga.seq
        for command in outstanding(saga):
            # Taken on trust like its state: whether it was sent before is known to those who read that far back.
            job.seen[fingerprint(self._scope.commands_of(command.step), encode_command(command))] = saga.seq
        self._arm(job)
        self.jobs.moved(job_id, job, None)
        for one in waiting:
            if one.offset > saga.offset:
                self._fold(job, one, decode_event(one.value, self._plans))
        for other, early in self._early.get(job_id, {}).items():
            moment = Moment(early.timestamp_ms, self._watermark.records_read)
            self._orphan_records.add(self._scope.events, self._partition, moment, (job_id, other))
        return True

    # --- judgement ----------------------------------------------------------------------------------------------------

    def settle(self, now_ms: int) -> None:
        """Judge what has waited long enough."""
        for job_id, mark in self._orphan_records.ripe(self._watermark):
            self._judge_orphan_records(job_id, mark)
        for job_id, mark, place in self._commands_due.ripe(self._watermark):
            job = self.jobs.get(job_id)
            lost = None if job is None else job.expected.pop(mark, None)
            if lost is not None:
                self._break(
                    Invariant.SENT,
                    job_id,
                    place,
                    f"its command with seq {lost.seq} is on no topic: not on {lost.topic}",
                )
        for offset, job_id in self._letters_due.ripe(self._watermark):
            if offset not in self._letters:
                place = LogPosition(self._scope.events, self._partition, offset)
                self._break(
                    Invariant.VISIBLE,
                    job_id,
                    place,
                    f"it was refused, and no dead letter on {self._scope.dead_letters} tells",
                )
        known = self._watermark.known_ms(self._scope.events, self._partition, now_ms)
        for key, seq in self._timers.due(known - STUCK_MS):
            job_id = key.decode()
            job = self.jobs.get(job_id)
            if job is not None and job.saga is not None and job.saga.seq == seq:
                self.stuck.add(job_id)
                place = LogPosition(self._scope.events, self._partition, job.saga.offset)
                late = (known - job.saga.due_ms) // 1000
                self._break(
                    Invariant.GOES_ON, job_id, place, f"its timer is {late} s overdue: is a coordinator running?"
                )

    def present_counts(self) -> AuditCounts:
        """Return the sums as they are now, with what follows from the events, was not seen, and is no wrong."""
        left = [one for job in self.jobs for one in job.expected.values()]
        return replace(
            self.counts,
            pending=sum(one.offset > self._decided for one in left),
            expired=self.counts.expired + sum(one.may_be_gone and one.offset <= self._decided for one in left),
        )

    def _forget(self, job_id: str, job: AuditedJob | None) -> None:
        self._early.pop(job_id, None)
        if job is not None:
            self.counts.expired += sum(one.may_be_gone for one in job.expected.values())

    def waits_for(self) -> Iterator[tuple[str, int]]:
        """Yield the partitions whose reading would settle something."""
        yield from self._orphan_records.partitions()
        yield from self._commands_due.partitions()
        yield from self._letters_due.partitions()

    def _judge_orphan_records(self, job_id: str, mark: bytes) -> None:
        early, job = self._early.get(job_id, {}), self.jobs.get(job_id)
        if mark not in early or (job is not None and job.pending_events is not None):
            # Explained by now; or its job waits for a first state, which may explain it.
            return
        record = early.pop(mark)
        if not early:
            del self._early[job_id]
        if job is not None and mark in job.seen:
            return
        violation = explain(record, job, self._starts, has_past=self.jobs.has_past(job_id))
        if violation is None:
            self.counts.unjudged += 1
        else:
            self._report(violation)

    def _break(self, rule: Invariant, job_id: str, place: LogPosition, detail: str) -> None:
        self._report(Violation(rule, job_id, detail, place))


def _said(record: Record) -> bytes:
    """Return a record's value in the present encoding; for a tombstone the seq up to which it forgets."""
    return _tombstone(seq_in(record.headers)) if record.value is None else reencoded(record.value)


def _tombstone(seq: int) -> bytes:
    return b"tombstone %d" % seq
