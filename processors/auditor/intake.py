"""Audits the way in: each request on scrape.urls becomes a submission, or a dead letter that says why not.

Intake answers the requests of a partition in order, a batch at a time, and goes on only when Kafka has the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from processors.auditor.scope import ReportViolation, Scope
from processors.auditor.violations import Invariant
from processors.auditor.watermark import Moment, Watermark
from processors.saga.invariants import LogPosition, Violation

# An intake that dies in mid-batch leaves some requests unanswered that lie before answered ones, until its successor
# begins again at the first of them. Later answers that span so much time show that nobody did.
LOST_MS = 60_000


@dataclass(slots=True)
class _Passed:
    """When later requests were answered: the first and the last of it."""

    first: Moment | None = None
    last: Moment | None = None


@dataclass(slots=True)
class _Partition:
    read_to: int = -1
    unanswered: dict[int, _Passed] = field(default_factory=dict)
    """Requests without an answer, in their order."""
    answers: dict[int, Moment] = field(default_factory=dict)
    """Answers whose requests were not read yet."""


class IntakeAudit:
    """Pairs requests with their answers, which lie on all partitions of the events and of the dead letters."""

    def __init__(self, scope: Scope, watermark: Watermark, report: ReportViolation) -> None:
        self._topic = scope.catalogue.urls.name
        self._answering = [(scope.events, number) for number in scope.starts]
        self._answering += [(scope.dead_letters, number) for number in range(scope.catalogue.dead_letters.partitions)]
        self._watermark = watermark
        self._report = report
        self._partitions: dict[int, _Partition] = {}
        self.rejected = 0

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return sum(len(one.unanswered) for one in list(self._partitions.values()))

    def request(self, partition: int, offset: int) -> None:
        """Take a request."""
        one = self._partitions.setdefault(partition, _Partition())
        one.read_to = offset
        one.unanswered[offset] = _Passed()
        answer = one.answers.pop(offset, None)
        if answer is not None:
            self._answered(one, offset, answer)

    def answer(self, partition: int, offset: int, moment: Moment, *, rejected: bool = False) -> None:
        """Take the submission or dead letter of a request; repeats change nothing."""
        one = self._partitions.setdefault(partition, _Partition())
        if offset > one.read_to:
            self.rejected += rejected and offset not in one.answers
            one.answers.setdefault(offset, moment)
        elif offset in one.unanswered:
            self.rejected += rejected
            self._answered(one, offset, moment)

    def _answered(self, one: _Partition, offset: int, moment: Moment) -> None:
        del one.unanswered[offset]
        # Intake answers in order: as a rule there is none before it.
        for earlier, passed in one.unanswered.items():
            if earlier > offset:
                break
            if passed.first is None or moment.written_ms < passed.first.written_ms:
                passed.first = moment
            if passed.last is None or moment.written_ms > passed.last.written_ms:
                passed.last = moment

    def settle(self) -> None:
        """Report the requests that intake has passed over."""
        for partition, offset, last in list(self._passed_over()):
            if all(self._watermark.passed(topic, number, last) for topic, number in self._answering):
                del self._partitions[partition].unanswered[offset]
                place = LogPosition(self._topic, partition, offset)
                detail = "neither accepted nor rejected, and intake has answered later ones for over a minute"
                self._report(Violation(Invariant.NOTHING_LOST, "", detail, place))

    def waits_for(self) -> Iterator[tuple[str, int]]:
        """Yield the partitions whose reading would settle something."""
        if next(self._passed_over(), None) is not None:
            yield from self._answering

    def _passed_over(self) -> Iterator[tuple[int, int, Moment]]:
        for partition, one in self._partitions.items():
            for offset, passed in one.unanswered.items():
                if passed.first is None or passed.last is None:
                    # In order: those behind it were not passed either, or not for long.
                    break
                if passed.last.written_ms - passed.first.written_ms > LOST_MS:
                    yield partition, offset, passed.last
