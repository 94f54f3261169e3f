"""What has been spent, and on what: the spend log folded into a book. No clock, no Kafka, no awaiting.

Each key's last entry says all that is known of its call, so a compacted log folds to the same sums:

    RESERVED ─> PAID ─> UNUSED <─> USED     money is out, or may be: counts as spent
        └─────────┴───────┴─────────┴──> CANCELLED     the API took it back
    RELEASED                             no call was made, or none had an effect

The log's order decides. An entry says which version of its key it replaces; of two workers that replace the same one
the first in the log wins, and the other's entry is overruled, as if it had not been written. So nobody acts on a stale
view: a result is claimed by one only, and a late payment can't undo a compensation.

A reservation is granted if everything that counts before it plus its own cost is within the cap *at its place in the
log*. The asker of a refused one withdraws it with RELEASED, and until then it counts: the sum depends on each key's
last entry alone, so no two readers, live or restarted on a compacted log, differ to the cap's disadvantage.

Compaction would keep an overruled entry that comes last. Whoever meets one writes the standing entry again; see
`overruled`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from processors.errors import BadRecord
from schemas.codec import UndecodableMessage, codec

_ENTRY = codec("spend_entry")


class SpendState(StrEnum):
    """What became of a paid call."""

    RESERVED = "RESERVED"
    PAID = "PAID"
    UNUSED = "UNUSED"
    USED = "USED"
    CANCELLED = "CANCELLED"
    RELEASED = "RELEASED"


COUNTED = frozenset(SpendState) - {SpendState.CANCELLED, SpendState.RELEASED}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendEntry:
    """All that is known of one paid call; schemas/spend_entry.avsc says what each field means."""

    key: str
    version: int
    pipeline: str
    step: str
    content_hash: str
    cost: Decimal
    cap: Decimal | None
    state: SpendState
    seq: int
    written_by: str
    at: str
    known: bool = False
    claimed_by: str = ""
    claim_seq: int = 0
    repaired: bool = False
    response: bytes | None = field(default=None, repr=False)

    def says_the_same_as(self, other: SpendEntry) -> bool:
        """Whether both say the same of the call; when and as which version doesn't matter."""
        return self == replace(other, version=self.version, at=self.at, repaired=self.repaired)

    def encode(self) -> bytes:
        """Return the entry as it lies in the topic."""
        cap = None if self.cap is None else str(self.cap)
        value = {name: getattr(self, name) for name in _FIELDS}
        return _ENTRY.encode({**value, "cost": str(self.cost), "cap": cap, "state": self.state.value})

    @classmethod
    def decode(cls, data: bytes) -> SpendEntry:
        """Read an entry. Raises BadRecord."""
        try:
            value: dict[str, Any] = _ENTRY.decode(data)
            cap = value.pop("cap")
            # The same few names over and over, in a book that may hold a million entries.
            for name in ("pipeline", "step"):
                value[name] = sys.intern(value[name])
            for name in ("written_by", "claimed_by"):
                value[name] = value["key"] if value[name] == value["key"] else value[name]
            return cls(
                cost=_amount(value.pop("cost")),
                cap=None if cap is None else _amount(cap),
                state=SpendState(value.pop("state")),
                **value,
            )
        except (UndecodableMessage, ArithmeticError, ValueError, TypeError, KeyError) as error:
            raise BadRecord(f"no spend entry: {error}") from error


def _amount(text: str) -> Decimal:
    # One NaN makes every sum that it is in incomparable; one of a million digits makes it unprintable.
    amount = Decimal(text)
    if not (amount.is_finite() and amount >= 0 and amount.adjusted() < 30):
        raise ValueError(f"{text[:40]!r} is not an amount of money")
    return amount


_FIELDS = tuple(entry_field.name for entry_field in fields(SpendEntry))


class SpendBook:
    """The state that the spend log folds to; every operation costs the same, however long the log is."""

    def __init__(self) -> None:
        self._entries: dict[str, SpendEntry] = {}
        #: Where the entry lies that stands for a key.
        self._places: dict[str, int] = {}
        self._totals: defaultdict[str, Decimal] = defaultdict(Decimal)
        #: RESERVED keys -> whether the reservation was granted at its place.
        self._granted: dict[str, bool] = {}
        #: Keys that use another key's result -> that key.
        self._sources: dict[str, str] = {}
        #: Content -> keys of unused results for it, in the log's order.
        self._unused: defaultdict[str, dict[str, None]] = defaultdict(dict)
        #: (job, step, content) -> key of the known result that this job holds, whichever key it was paid under.
        self._held: dict[tuple[str, str, str], str] = {}
        self._overruled: dict[str, None] = {}

    def fold(self, offset: int, key: str, entry: SpendEntry | None) -> None:
        """Take in the next entry of the log; None, a tombstone, forgets the key and what it cost."""
        current = self._entries.get(key)
        if current is not None and entry is not None:
            if entry.version == current.version and entry.says_the_same_as(current):
                self._overruled.pop(key, None)
                return
            if entry.version <= current.version or self._is_late_claim(entry):
                self._overruled[key] = None
                return
        self._overruled.pop(key, None)
        granted = self._granted.get(key)
        if current is not None:
            self._take_out(current)
        if entry is not None:
            self._put_in(offset, entry)
            if current is not None and granted is not None and entry.says_the_same_as(current):
                self._granted[key] = granted

    def entry(self, key: str) -> SpendEntry | None:
        """Return what stands for a key."""
        return self._entries.get(key)

    def stands(self, entry: SpendEntry, offset: int) -> bool:
        """Whether an entry that was written at an offset stands, there or as it was written again later."""
        current = self._entries.get(entry.key)
        place = self._places.get(entry.key, -1)
        return place == offset or (place > offset and current is not None and current.says_the_same_as(entry))

    def total(self, pipeline: str) -> Decimal:
        """Return what a pipeline has spent or reserved."""
        return self._totals.get(pipeline, Decimal(0))

    def is_granted(self, key: str) -> bool:
        """Whether the reservation that stands for a key was within its cap at its place."""
        return self._granted.get(key, False)

    def claimable(self, content_hash: str) -> SpendEntry | None:
        """Return the first unused result for a content."""
        key = next(iter(self._unused.get(content_hash, ())), None)
        return None if key is None else self._entries[key]

    def of_an_earlier_run(self, key: str, content_hash: str) -> SpendEntry | None:
        """Return the known result that an earlier run of the same job and step holds for a content."""
        job, run, step = parts(key)
        entry = self._entries.get(self._held.get((job, step, content_hash), ""))
        return entry if entry is not None and parts(entry.claimed_by or entry.key)[1] < run else None

    def used_by(self, key: str) -> SpendEntry | None:
        """Return the entry of another key whose result is used under this key."""
        source = self._sources.get(key)
        return None if source is None else self._entries[source]

    def overruled(self) -> list[SpendEntry]:
        """Return the entries to write again, because the last one of their key in the log doesn't count."""
        standing = [self._entries[key] for key in self._overruled]
        return [replace(entry, version=entry.version + 1, repaired=True) for entry in standing]

    def _is_late_claim(self, entry: SpendEntry) -> bool:
        """Whether a claim comes from a command that a newer one of the claimant's saga has overtaken."""
        claimant = self._entries.get(entry.claimed_by)
        return claimant is not None and claimant.seq > entry.claim_seq

    def _take_out(self, entry: SpendEntry) -> None:
        del self._entries[entry.key], self._places[entry.key]
        self._granted.pop(entry.key, None)
        if entry.state in COUNTED:
            self._totals[entry.pipeline] -= entry.cost
        if entry.state is SpendState.USED and self._sources.get(entry.claimed_by) == entry.key:
            del self._sources[entry.claimed_by]
        if self._held.get(_holder(entry)) == entry.key:
            del self._held[_holder(entry)]
        if entry.state is SpendState.UNUSED:
            keys = self._unused[entry.content_hash]
            keys.pop(entry.key, None)
            if not keys:
                del self._unused[entry.content_hash]

    def _put_in(self, offset: int, entry: SpendEntry) -> None:
        self._entries[entry.key] = entry
        self._places[entry.key] = offset
        if entry.state in COUNTED:
            self._totals[entry.pipeline] += entry.cost
        if entry.state in (SpendState.PAID, SpendState.USED) and entry.known:
            self._held[_holder(entry)] = entry.key
        match entry.state:
            case SpendState.RESERVED:
                self._granted[entry.key] = entry.cap is None or self._totals[entry.pipeline] <= entry.cap
            case SpendState.UNUSED:
                self._unused[entry.content_hash][entry.key] = None
            case SpendState.USED:
                self._sources[entry.claimed_by] = entry.key
            case SpendState.PAID | SpendState.CANCELLED | SpendState.RELEASED:
                pass


def parts(key: str) -> tuple[str, int, str]:
    """Return job, run and step of an idempotency key `job_id:run:step`; one of another form is a job's only run."""
    # From the right: a job_id may have colons of its own.
    job, _, rest = key[: key.rfind(":")].rpartition(":")
    return (job, int(rest), key[key.rfind(":") + 1 :]) if job and rest.isdecimal() else (key, 0, "")


def _holder(entry: SpendEntry) -> tuple[str, str, str]:
    job, _run, step = parts(entry.claimed_by or entry.key)
    return job, step, entry.content_hash
