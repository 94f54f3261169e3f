"""The auditor itself: takes records of all topics in any order, and reports each broken promise once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from processors.auditor.intake import IntakeAudit
from processors.auditor.records import RecordsAudit
from processors.auditor.sagas import AuditCounts, SagaAudit
from processors.auditor.scope import ReportViolation, Scope
from processors.auditor.spend import SpendAudit
from processors.auditor.watermark import Moment, Watermark
from processors.kafka.partitioner import partition_for
from processors.kafka.record import Record
from processors.messages.dead_letters import source_of
from processors.messages.wire import FindPlan
from processors.saga.events import Submitted
from processors.saga.invariants import Violation
from processors.saga.state import Phase, Saga

# The first of them tell the story; a broken build breaks a promise with every record.
EXAMPLES_KEPT = 100


class Auditor:
    """Judges the live topics of one installation. It reads, and writes nothing."""

    def __init__(self, scope: Scope, plans: FindPlan, report: ReportViolation = lambda violation: None) -> None:
        self.scope = scope
        self.watermark = Watermark()
        self.violations: Counter[str] = Counter()
        self.examples: list[Violation] = []
        self._on_violation = report
        self._partitions = {
            number: SagaAudit(number, scope, self.watermark, plans, self._report, self._ended, self._accepted)
            for number in scope.starts
        }
        self._records = RecordsAudit(scope, self.watermark, self._report)
        self._spend = SpendAudit(self._report)
        self._intake = IntakeAudit(scope, self.watermark, self._report)

    # --- records ------------------------------------------------------------------------------------------------------

    def seed(self, partition: int, saga: Saga) -> None:
        """Take over a saga in flight from before the beginning."""
        self._partitions[partition].seed(saga)

    def event(self, record: Record) -> None:
        """Take an event. Raises UnknownPlan, and has taken nothing: read the plans, then call again or give it up."""
        self._partitions[record.partition].event(record, self._read(record))

    def unreadable(self, record: Record) -> None:
        """Take an event whose plan doesn't exist: the coordinator sets it aside."""
        self._partitions[record.partition].unreadable(record)

    def other(self, record: Record) -> None:
        """Take a record of any other topic."""
        moment, catalogue = self._read(record), self.scope.catalogue
        match record.topic:
            case catalogue.spend.name:
                self._spend.entry(record)
            case self.scope.records:
                self._records.record(record)
            case catalogue.urls.name:
                self._intake.request(record.partition, record.offset)
            case self.scope.dead_letters:
                self._letter(record, moment)
            case _ if record.partition in self._partitions:
                self._partitions[record.partition].written(record, moment)
            case _:
                pass

    def _read(self, record: Record) -> Moment:
        return self.watermark.read(record.topic, record.partition, record.timestamp_ms)

    def _letter(self, record: Record, moment: Moment) -> None:
        source = source_of(record.headers)
        if source is None:
            return
        if source.topic == self.scope.catalogue.urls.name:
            self._intake.answer(source.partition, source.offset, moment, rejected=True)
        elif source.topic == self.scope.events and source.partition in self._partitions:
            self._partitions[source.partition].letter(source.offset)

    def _accepted(self, event: Submitted, moment: Moment) -> None:
        self._intake.answer(event.origin.partition, event.origin.offset, moment)

    def _ended(self, saga: Saga, moment: Moment) -> None:
        self._records.ended(saga, moment)

    # --- judgement ----------------------------------------------------------------------------------------------------

    def settle(self, now_ms: int) -> None:
        """Judge what has waited long enough."""
        for one in self._partitions.values():
            one.settle(now_ms)
        self._records.settle(self._present)
        self._intake.settle()

    def settle_at_rest(self, topics: Collection[str], now_ms: int) -> None:
        """Judge what waits for these topics: they were read to their ends, and nothing more is coming."""
        while waited_for := [place for place in self.waits_for() if place[0] in topics]:
            for topic, partition in waited_for:
                self.watermark.at_end(topic, partition, self.watermark.records_read)
            self.settle(now_ms)

    def _present(self, job_id: str) -> Saga | None:
        partition = partition_for(job_id.encode(), self.scope.catalogue.events.partitions)
        one = self._partitions.get(partition)
        job = None if one is None else one.jobs.get(job_id)
        return None if job is None else job.saga

    def waits_for(self) -> set[tuple[str, int]]:
        """Return the partitions whose reading to their present end would settle something."""
        return {*self._waits_for()}

    def _waits_for(self) -> Iterator[tuple[str, int]]:
        for one in self._partitions.values():
            yield from one.waits_for()
        yield from self._records.waits_for()
        yield from self._intake.waits_for()

    def _report(self, violation: Violation) -> None:
        self.violations[violation.rule] += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append(violation)
        self._on_violation(violation)

    # --- sums ---------------------------------------------------------------------------------------------------------

    @property
    def ahead(self) -> int:
        """How many states are expected that were not seen yet."""
        return sum(one.ahead for one in self._partitions.values())

    @property
    def behind(self) -> int:
        """How many records were seen whose events were not."""
        return sum(one.behind for one in self._partitions.values())

    @property
    def events(self) -> int:
        """How many events were judged."""
        return sum(one.counts.events for one in self._partitions.values())

    def counts(self) -> AuditCounts:
        """Return the sums of all partitions."""
        return sum((one.present_counts() for one in self._partitions.values()), AuditCounts())

    @property
    def unjudged(self) -> int:
        """How many records could not be judged, as what they follow from lies before the beginning."""
        return sum(one.counts.unjudged for one in self._partitions.values())

    @property
    def stuck(self) -> int:
        """How many sagas wait past their time."""
        return sum(len(one.stuck) for one in self._partitions.values())

    def conservation(self) -> dict[str, int]:
        """Return what became of the jobs whose beginning was seen, or that were taken over in flight: by state."""
        counted = {phase.value.lower(): 0 for phase in Phase if phase is not Phase.NEW}
        for one in self._partitions.values():
            for phase, count in dict(one.jobs.phases).items():
                counted[phase.value.lower()] += count
        counted["forgotten"] = sum(one.counts.forgotten for one in self._partitions.values())
        counted["rejected"] = self._intake.rejected
        counted["waiting"] = self._intake.waiting
        return counted
