"""What has been spent, and on what: the spend log folded into a book. No clock, no Kafka, no awaiting.

Each key's last entry says all that is known of its call, so a compacted log folds to the same sums:

    RESERVED ──> PAID ──> UNUSED ──> USED      money is out, or may be: counts as spent
        └──────────┴────────┴──────> CANCELLED the API took it back
    RELEASED                                   no call was made, or none had an effect
    CLAIMING                                   this key asks for another's unused result

Order decides. A reservation is granted if everything that counts before it plus its own cost is within the cap *at its
place in the log*; the asker of a refused one withdraws it with RELEASED, and until then it counts, so that no two
readers, live or restarted on a compacted log, can differ to the cap's disadvantage. Of several claims on one unused result
the first in the log holds it.

An entry is overruled, as if it had not been written, if its seq is lower than the key's (a zombie worker), if its state
can't follow (see FOLLOWS), or if it takes a result from the one who holds it. Compaction would keep just that entry, so whoever meets it writes the
standing one again: see `overruled`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
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
    CLAIMING = "CLAIMING"
    USED = "USED"
    CANCELLED = "CANCELLED"
    RELEASED = "RELEASED"


COUNTED = frozenset({SpendState.RESERVED, SpendState.PAID, SpendState.UNUSED, SpendState.USED})

#: What may follow on a key, for the same seq or a higher one. PAID follows all that is no later knowledge: money that is
#: out is a fact. RESERVED doesn't follow it, so that a slow worker's question can't erase an answer.
FOLLOWS: dict[SpendState, frozenset[SpendState]] = {
    SpendState.RESERVED: frozenset(SpendState) - {SpendState.USED, SpendState.CLAIMING},
    SpendState.PAID: frozenset({SpendState.PAID, SpendState.UNUSED, SpendState.CANCELLED}),
    SpendState.UNUSED: frozenset({SpendState.UNUSED, SpendState.PAID, SpendState.USED, SpendState.CANCELLED}),
    SpendState.USED: frozenset({SpendState.USED, SpendState.UNUSED, SpendState.CANCELLED}),
    SpendState.CLAIMING: frozenset({SpendState.CLAIMING, SpendState.RESERVED, SpendState.PAID, SpendState.RELEASED}),
    SpendState.CANCELLED: frozenset({SpendState.CANCELLED}),
    SpendState.RELEASED: frozenset({SpendState.RELEASED, SpendState.RESERVED, SpendState.CLAIMING, SpendState.PAID}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendEntry:
    """All that is known of one paid call; schemas/spend_entry.avsc says what each field means."""

    key: str
    pipeline: str
    step: str
    content: str
    cost: Decimal
    cap: Decimal | None
    state: SpendState
    seq: int
    written_by: str
    at: str
    known: bool = False
    claimed_by: str = ""
    source: str = ""
    response: bytes | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """Return the entry as it lies in the topic."""
        return _ENTRY.encode(
            {
                "key": self.key,
                "pipeline": self.pipeline,
                "step": self.step,
                "content": self.content,
                "cost": str(self.cost),
                "cap": None if self.cap is None else str(self.cap),
                "state": self.state.value,
                "seq": self.seq,
                "known": self.known,
                "claimed_by": self.claimed_by,
                "source": self.source,
                "written_by": self.written_by,
                "at": self.at,
                "response": self.response,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> SpendEntry:
        """Read an entry. Raises BadRecord."""
        try:
            value: dict[str, Any] = _ENTRY.decode(data)
            cap = value.pop("cap")
            return cls(
                cost=Decimal(value.pop("cost")),
                cap=None if cap is None else Decimal(cap),
                state=SpendState(value.pop("state")),
                **value,
            )
        except (UndecodableMessage, ArithmeticError, TypeError, KeyError) as error:
            raise BadRecord(f"no spend entry: {error}") from error


class SpendBook:
    """The state that the spend log folds to; every operation costs the same, however long the log is."""

    def __init__(self) -> None:
        self._entries: dict[str, SpendEntry] = {}
        self._totals: defaultdict[str, Decimal] = defaultdict(Decimal)
        #: RESERVED keys -> offset and verdict at that place in the log.
        self._verdicts: dict[str, tuple[int, bool]] = {}
        #: Keys of a result -> who claims it, in the log's order.
        self._claims: defaultdict[str, dict[str, None]] = defaultdict(dict)
        #: Content -> keys of unused results for it, in the log's order.
        self._unused: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._overruled: dict[str, None] = {}

    def fold(self, offset: int, key: str, entry: SpendEntry | None) -> None:
        """Take in the next entry of the log; None, a tombstone, forgets the key and what it cost."""
        current = self._entries.get(key)
        if entry is not None and current is not None and not self._may_replace(current, entry):
            self._overruled[key] = None
            return
        self._overruled.pop(key, None)
        if current is not None:
            self._take_out(current)
        if entry is not None:
            self._put_in(offset, entry)

    def entry(self, key: str) -> SpendEntry | None:
        """Return what stands for a key."""
        return self._entries.get(key)

    def total(self, pipeline: str) -> Decimal:
        """Return what a pipeline has spent or reserved."""
        return self._totals.get(pipeline, Decimal(0))

    def verdict(self, key: str) -> tuple[int, bool] | None:
        """Return where a reservation that stands lies in the log, and whether it was granted there."""
        return self._verdicts.get(key)

    def claimable(self, content: str) -> SpendEntry | None:
        """Return the first unused result for a content that nobody claims."""
        for key in self._unused.get(content, ()):
            if not self._claims.get(key):
                return self._entries[key]
        return None

    def holder(self, source: str) -> str | None:
        """Return the key that has the right to a result: the one that uses it, else the first that claims it."""
        entry = self._entries.get(source)
        if entry is not None and entry.state is SpendState.USED:
            return entry.claimed_by
        return next(iter(self._claims.get(source, ())), None)

    def overruled(self) -> list[SpendEntry]:
        """Return the entries to write again, because the last one of their key in the log must not count."""
        return [self._entries[key] for key in self._overruled]

    def _may_replace(self, current: SpendEntry, entry: SpendEntry) -> bool:
        if entry.seq < current.seq or entry.state not in FOLLOWS[current.state]:
            return False
        if current.state is SpendState.USED:
            return entry.written_by == current.claimed_by
        if entry.state is SpendState.USED:
            return entry.written_by == self.holder(entry.key)
        return True

    def _take_out(self, entry: SpendEntry) -> None:
        del self._entries[entry.key]
        self._verdicts.pop(entry.key, None)
        if entry.state in COUNTED:
            self._totals[entry.pipeline] -= entry.cost
        match entry.state:
            case SpendState.UNUSED:
                _remove(self._unused, entry.content, entry.key)
            case SpendState.CLAIMING:
                _remove(self._claims, entry.source, entry.key)
            case _:
                pass

    def _put_in(self, offset: int, entry: SpendEntry) -> None:
        self._entries[entry.key] = entry
        if entry.state in COUNTED:
            self._totals[entry.pipeline] += entry.cost
        match entry.state:
            case SpendState.RESERVED:
                granted = entry.cap is None or self._totals[entry.pipeline] <= entry.cap
                self._verdicts[entry.key] = (offset, granted)
            case SpendState.UNUSED:
                self._unused[entry.content][entry.key] = None
            case SpendState.CLAIMING:
                self._claims[entry.source][entry.key] = None
            case _:
                pass


def _remove(index: defaultdict[str, dict[str, None]], name: str, key: str) -> None:
    keys = index[name]
    keys.pop(key, None)
    if not keys:
        del index[name]
