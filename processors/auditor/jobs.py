"""What the auditor remembers of the jobs of one partition: sagas in flight whole, ended ones for a while, then a mark."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.kafka.record import Record
from processors.saga.state import ENDED, Phase, Saga

# An ended saga is looked at again by late answers, repeats and redrives, most of them within minutes. 4 KB each.
ENDED_KEPT = 20_000
# Jobs that were known once: a later state of theirs is taken on trust instead of being called a forgery. 100 B each.
FORMER_KEPT = 500_000


def fingerprint(topic: str, value: bytes) -> bytes:
    """Return what tells a record from all others of its job: its topic and its bytes."""
    return hashlib.blake2b(value, digest_size=8, key=topic.encode()[-64:]).digest()


class ExpectedRecord(NamedTuple):
    """A record that follows from an event: a state, or the command that it issued."""

    topic: str
    seq: int
    offset: int
    """Of the event."""
    is_state: bool
    may_be_gone: bool
    """Its topic may have removed it already."""


@dataclass(slots=True)
class AuditedJob:
    """One job: its saga as the events say, what the topics must hold of it, and what they were seen to hold."""

    saga: Saga | None = None
    expected: dict[bytes, ExpectedRecord] = field(default_factory=dict)
    seen: dict[bytes, int] = field(default_factory=dict)
    """Fingerprints with their seq: a record may come again, exactly as it was."""
    first_seq: int = 0
    """Lower numbers are from before what was read."""
    pending_events: list[Record] | None = None
    """Its state isn't known: events that wait for it. None: the saga above is the fold."""


class Jobs:
    """The jobs of one partition; `whole` says that its log is read from the first record that it ever had."""

    def __init__(
        self, *, whole: bool, on_forget: Callable[[str, AuditedJob | None], object] = lambda job_id, job: None
    ) -> None:
        self._on_forget = on_forget
        self._jobs: dict[str, AuditedJob] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._former: OrderedDict[bytes, Phase | None] = OrderedDict()
        self._whole = whole
        self.phases: Counter[Phase] = Counter()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[AuditedJob]:
        return iter(self._jobs.values())

    def get(self, job_id: str) -> AuditedJob | None:
        """Return what is known of a job."""
        return self._jobs.get(job_id)

    def has_past(self, job_id: str) -> bool:
        """Whether a job that isn't known may have been there before."""
        return not self._whole or _mark(job_id) in self._former

    def add(self, job_id: str, job: AuditedJob) -> AuditedJob:
        """Remember a job."""
        self._jobs[job_id] = job
        self.moved(job_id, job, None)
        return job

    def moved(self, job_id: str, job: AuditedJob, before: Saga | None) -> None:
        """Note that a job's saga changed. Of those that ended, the ones that did so first are forgotten."""
        if before is not None:
            self.phases[before.phase] -= 1
        if job.saga is not None:
            if before is None and (former := self._former.pop(_mark(job_id), None)) is not None:
                self.phases[former] -= 1
            self.phases[job.saga.phase] += 1
        if job.saga is not None and job.saga.phase not in ENDED:
            self._ended.pop(job_id, None)
            return
        self._ended[job_id] = None
        self._ended.move_to_end(job_id)
        while len(self._ended) > ENDED_KEPT:
            self._forget(self._ended.popitem(last=False)[0])

    def _forget(self, job_id: str) -> None:
        job = self._jobs.pop(job_id, None)
        self._on_forget(job_id, job)
        if job is None or job.saga is not None or job.pending_events is None:
            self._former[_mark(job_id)] = None if job is None or job.saga is None else job.saga.phase
        if len(self._former) > FORMER_KEPT:
            self._former.popitem(last=False)
            self._whole = False


def _mark(job_id: str) -> bytes:
    return hashlib.blake2b(job_id.encode(), digest_size=8).digest()
