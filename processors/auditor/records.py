"""Audits scrape.records: its compacted view is the set of completed jobs, as far as their pipelines end in `notify`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from processors.auditor.scope import ReportViolation, Scope
from processors.auditor.violations import Invariant, position_of
from processors.auditor.watermark import Moment, Waiting, Watermark
from processors.kafka.partitioner import partition_for
from processors.kafka.record import Record, header_values
from processors.saga.invariants import LogPosition, Violation
from processors.saga.plan import StepPlan
from processors.saga.state import Phase, Saga, StepState, StepStatus, Undo

# A job's end is judged within seconds of its record; 200 B each.
LATEST_KEPT = 100_000
NOTIFY = "notify"
JOB_ID = "job_id"


class Latest(NamedTuple):
    """The last record under a key."""

    job_id: str
    is_there: bool
    place: LogPosition
    written_ms: int


class Check(NamedTuple):
    """The end of a run, to be compared with what lies under its key."""

    saga: Saga
    key: bytes
    ended_ms: int


class RecordsAudit:
    """Compares the ends of runs with the records that they left, or should not have."""

    def __init__(self, scope: Scope, watermark: Watermark, report: ReportViolation) -> None:
        self._scope = scope
        self._watermark = watermark
        self._report = report
        self._latest: OrderedDict[bytes, Latest] = OrderedDict()
        self._checks: Waiting[Check] = Waiting()

    def record(self, record: Record) -> None:
        """Take a record of the topic; one without our headers is somebody else's."""
        job_id = header_values(record.headers).get(JOB_ID, b"").decode("utf-8", "replace")
        key = record.key or b""
        self._latest[key] = Latest(job_id, record.value is not None, position_of(record), record.timestamp_ms)
        self._latest.move_to_end(key)
        if len(self._latest) > LATEST_KEPT:
            self._latest.popitem(last=False)

    def ended(self, saga: Saga, moment: Moment) -> None:
        """Look at what a run left once the records were read past its end."""
        for planned, step in zip(saga.plan.steps, saga.steps, strict=True):
            if planned.use != NOTIFY or step.status is StepStatus.REUSED or step.undo is Undo.SKIPPED:
                continue
            key = published_key(saga.job_id, planned, step)
            if key is not None:
                partition = partition_for(key, self._scope.catalogue.records.partitions)
                self._checks.add(self._scope.records, partition, moment, Check(saga, key, moment.written_ms))

    def waits_for(self) -> Iterator[tuple[str, int]]:
        """Yield the partitions whose reading would settle something."""
        return self._checks.partitions()

    def settle(self, present: Callable[[str], Saga | None]) -> None:
        """Judge the ends that can be by now; `present` is a job's saga as it stands: one that has gone on isn't judged."""
        for check in self._checks.ripe(self._watermark):
            now = present(check.saga.job_id)
            if now is not None and now.seq == check.saga.seq:
                self._judge(check)

    def _judge(self, check: Check) -> None:
        saga = check.saga
        latest = self._latest.get(check.key)
        if latest is not None and latest.job_id != saga.job_id:
            # A business key that another job has taken over since.
            return
        completed = saga.phase is Phase.COMPLETED
        if completed is (latest is not None and latest.is_there):
            return
        if latest is not None and latest.written_ms > check.ended_ms:
            # Written after the end: by a later run, if the events tell of one; a record, by a late effect whose report
            # is on its way and will have it undone.
            if completed:
                partition = partition_for(saga.job_id.encode(), self._scope.catalogue.events.partitions)
                moment = Moment(latest.written_ms, self._watermark.records_read)
                self._checks.add(self._scope.events, partition, moment, check._replace(ended_ms=latest.written_ms))
            return
        if not completed and latest is not None:
            detail = f"run {saga.run} was compensated, and its record under {check.key!r} has no tombstone behind it"
            self._report(Violation(Invariant.RECORD_GONE, saga.job_id, detail, latest.place))
        elif completed and saga.started_ms >= self._scope.since_ms:
            where = LogPosition(self._scope.records, -1, -1) if latest is None else latest.place
            detail = f"run {saga.run} completed, and there is no record under {check.key!r}"
            self._report(Violation(Invariant.RECORD_THERE, saga.job_id, detail, where))


def published_key(job_id: str, planned: StepPlan, step: StepState) -> bytes | None:
    """Return the key under which a `notify` step published, or would have; None if that can't be known."""
    try:
        told = msgspec.json.decode(step.output)["data"]["key"] if step.output else None
        chosen = msgspec.json.decode(planned.params or "{}").get("key", JOB_ID)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return None
    if isinstance(told, str):
        return told.encode()
    return job_id.encode() if chosen == JOB_ID else None
