"""Audits scrape.spend: each key is paid at most once, for one content, and no more is paid than the cap allows."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from processors.auditor.scope import ReportViolation
from processors.auditor.violations import Invariant, position_of
from processors.errors import BadRecord
from processors.kafka.record import Record
from processors.saga.invariants import Violation
from processors.spend.book import SpendBook, SpendEntry, SpendState

#: Once a call was taken back, or its result given to another key, nothing is paid under its own any more.
_SETTLED = frozenset({SpendState.CANCELLED, SpendState.USED})


class SpendAudit:
    """Folds the ledger as the workers do, and looks at what each entry makes of the one before.

    Its memory grows with the ledger, as that of the workers does: a few hundred bytes a key, whatever the answers hold.
    """

    def __init__(self, report: ReportViolation) -> None:
        self._book = SpendBook()
        self._report = report
        self.entries = 0

    def entry(self, record: Record) -> None:
        """Take the next entry."""
        key = (record.key or b"").decode("utf-8", "replace")
        self.entries += 1
        if record.value is None:
            self._book.fold(record.offset, key, None)
            return
        try:
            entry = _slim(SpendEntry.decode(record.value))
        except BadRecord as error:
            self._report(Violation(Invariant.READABLE, "", str(error), position_of(record)))
            return
        before, was_granted = self._book.entry(key), self._book.is_granted(key)
        self._book.fold(record.offset, key, entry)
        if self._book.stands(entry, record.offset):
            self._judge(record, before, was_granted, entry)

    def _judge(self, record: Record, before: SpendEntry | None, was_granted: bool, entry: SpendEntry) -> None:
        def violation(rule: Invariant, detail: str) -> None:
            self._report(Violation(rule, _job_of(entry.key), detail, position_of(record)))

        if before is not None and before.content_hash != entry.content_hash:
            violation(Invariant.ONE_PAYLOAD, f"key {entry.key} was for another content before")
        paid_again = before is not None and before.known and entry.known and before.response != entry.response
        if paid_again and entry.state is not SpendState.CANCELLED:
            violation(Invariant.PAID_ONCE, f"key {entry.key} was paid before, and got another answer")
        elif entry.state is SpendState.PAID and before is not None and before.state in _SETTLED:
            violation(Invariant.PAID_ONCE, f"key {entry.key} is paid after it was {before.state.lower()}")
        elif entry.state is SpendState.PAID and (source := self._book.used_by(entry.key)) is not None:
            violation(Invariant.PAID_ONCE, f"key {entry.key} is paid, and uses the result of {source.key} as well")
        refused = before is not None and before.state is SpendState.RESERVED and not was_granted and not before.repaired
        unasked = before is None and entry.cap is not None and self._book.total(entry.pipeline) > entry.cap
        if entry.state is SpendState.PAID and (refused or unasked):
            spent = self._book.total(entry.pipeline)
            violation(
                Invariant.WITHIN_CAP,
                f"key {entry.key} is paid, and makes it {spent} of {entry.cap} for {entry.pipeline}",
            )


def _slim(entry: SpendEntry) -> SpendEntry:
    """Return the entry with a digest in place of its answer, which may have megabytes."""
    if entry.response is None:
        return entry
    return replace(entry, response=hashlib.blake2b(entry.response, digest_size=8).digest())


def _job_of(key: str) -> str:
    return key.rsplit(":", 2)[0]
