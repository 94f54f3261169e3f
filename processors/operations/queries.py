"""What the topics say of jobs and plans, read from outside: the latest states, one job's state, and all plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from processors.errors import BadRecord
from processors.kafka.partitioner import partition_for
from processors.kafka.reader import Reader
from processors.kafka.record import Record
from processors.messages.wire import decode_saga_fields
from processors.pipeline.plan_store import PlanBook
from processors.saga_table.changelog import ChangelogMemory, fold, seq_in


class Newest:
    """The latest state of each job, by the rule that the coordinator's own table is restored by."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._states: dict[bytes, bytes] = {}
        fold(self._states, ChangelogMemory(), ((r.key or b"", r.value, seq_in(r.headers)) for r in records))

    def state(self, job_id: str) -> dict[str, Any] | None:
        """Return a job's state as a mapping. Raises BadRecord."""
        value = self._states.get(job_id.encode())
        return None if value is None else decode_saga_fields(value)

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield every job's state; what is no state is passed over: one such record must not hide all jobs."""
        for value in self._states.values():
            with suppress(BadRecord):
                yield decode_saga_fields(value)


def job_partition(reader: Reader, topic: str, job_id: str) -> int:
    """Return the partition that a job's records have in a topic that is keyed by job_id."""
    return partition_for(job_id.encode(), reader.partitions(topic))


def job_state(reader: Reader, topic: str, job_id: str) -> dict[str, Any] | None:
    """Return the latest state of one job, reading only its partition; None if there is none."""
    key = job_id.encode()
    records = reader.records(topic, [job_partition(reader, topic, job_id)])
    return Newest(record for record in records if record.key == key).state(job_id)


def all_states(reader: Reader, topic: str) -> Newest:
    """Return the latest state of every job."""
    return Newest(reader.records(topic))


def plan_book(records: Iterable[Record]) -> PlanBook:
    """Return what records of the plans topic say."""
    return PlanBook.of((record.key, record.value) for record in records)


def read_plans(reader: Reader, topic: str) -> PlanBook:
    """Read all plans."""
    return plan_book(reader.records(topic))
