"""What the spend ledger in a host's memory says."""

from __future__ import annotations

from decimal import Decimal

from processors.spend.book import COUNTED, SpendBook, SpendEntry, SpendState, parts
from processors.testing.memory import MemoryHost

#: States in which money is out, or may be, for a result that is in use.
_IN_USE = frozenset({SpendState.RESERVED, SpendState.PAID, SpendState.USED})


def spend_entries(host: MemoryHost) -> list[SpendEntry]:
    """Return what stands for each paid call, in the order in which they were first written."""
    book, keys = SpendBook(), dict[str, None]()
    for record in host.records("spend"):
        key = record.key.decode()
        book.fold(record.offset, key, None if record.value is None else SpendEntry.decode(record.value))
        keys[key] = None
    return [entry for key in keys if (entry := book.entry(key)) is not None]


def spent_on(host: MemoryHost) -> Decimal:
    """Return what all pipelines have spent or reserved."""
    return sum((entry.cost for entry in spend_entries(host) if entry.state in COUNTED), Decimal(0))


def paid_for(host: MemoryHost, job_id: str) -> list[SpendEntry]:
    """Return the paid calls whose results a job uses, or may use."""
    return [
        entry
        for entry in spend_entries(host)
        if entry.state in _IN_USE and parts(entry.claimed_by or entry.key)[0] == job_id
    ]
