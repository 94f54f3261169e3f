"""What the log of saga states says: the rule by which it becomes a table, over plain values.

Of all states of a saga the one with the highest seq holds. A tombstone carries, in a header, the seq of the state
that it forgets: it deletes every state up to that seq, those that a stale owner writes after it too. So a saga that
begins again under a forgotten id must begin above the tombstone's seq.

A record is *stale* when a better one for its key lies before it. The table ignores it, but compaction keeps the last
record of a key, whatever it says: the better one has to be published again before it is compacted away.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field

from processors.errors import BadRecord
from schemas.codec import HEADER_BYTES, MARKER

# A tombstone's seq, in ASCII so that `kcat` shows it. A value says its own.
SEQ_HEADER = "seq"

# Older tombstones are dropped from memory: they only answer a stale owner that wrote after its saga had ended, been
# kept for its retention and forgotten. 20,000 cost ~5 MB a partition.
GRAVES_KEPT = 20_000

# (key, value, seq of the tombstone when the value is None)
ChangelogEntry = tuple[bytes, bytes | None, int]


@dataclass(slots=True)
class ChangelogMemory:
    """What a partition of the log says beyond its states; fold() keeps it up to date."""

    graves: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    """Forgotten keys, oldest first, with the highest seq that is forgotten."""

    stale: set[bytes] = field(default_factory=set)
    """Keys whose last record in the log does not have the highest seq."""

    def trim(self) -> None:
        """Drop the oldest graves beyond GRAVES_KEPT."""
        while len(self.graves) > GRAVES_KEPT:
            self.graves.popitem(last=False)


def peek(value: bytes) -> tuple[int, int, int, int]:
    """Read seq, due_ms, the index of the phase and started_ms from an encoded SagaState; BadRecord if it isn't one."""
    if not value.startswith(MARKER):
        raise BadRecord(f"Not a saga state: {value[:12]!r} is not Avro single-object encoding.")
    fields: list[int] = []
    at = HEADER_BYTES
    try:
        for _ in range(4):
            number = shift = 0
            while (byte := value[at]) > 0x7F:
                number |= (byte & 0x7F) << shift
                shift += 7
                at += 1
            number |= byte << shift
            at += 1
            fields.append((number >> 1) ^ -(number & 1))
    except IndexError:
        raise BadRecord(f"Not a saga state: it ends after {len(value)} bytes.") from None
    return fields[0], fields[1], fields[2], fields[3]


def plan_hash_of(value: bytes) -> str:
    """Read the plan's hash, the fifth field, from an encoded SagaState that peek() can read; "" if it isn't there."""
    at = HEADER_BYTES
    try:
        for _ in range(4):
            while value[at] > 0x7F:
                at += 1
            at += 1
        # A hash has fewer than 64 characters, so its length is one byte.
        return value[at + 1 : at + 1 + (value[at] >> 1)].decode("ascii", "replace")
    except IndexError:
        return ""


def seq_of(value: bytes) -> int:
    """The seq of an encoded SagaState; -1, less than any, if it isn't one."""
    if not value.startswith(MARKER):
        return -1
    number = shift = 0
    at = HEADER_BYTES
    try:
        while (byte := value[at]) > 0x7F:
            number |= (byte & 0x7F) << shift
            shift += 7
            at += 1
    except IndexError:
        return -1
    number |= byte << shift
    return (number >> 1) ^ -(number & 1)


def seq_in(headers: Iterable[tuple[str, str | bytes | None]] | None) -> int:
    """The seq in a tombstone's headers; -1 if it has none: such a tombstone deletes nothing."""
    for name, value in headers or ():
        if name == SEQ_HEADER and value is not None:
            try:
                return int(value)
            except ValueError:
                return -1
    return -1


def fold(states: MutableMapping[bytes, bytes], memory: ChangelogMemory, changes: Iterable[ChangelogEntry]) -> None:
    """Apply records in the log's order to `states`, by highest seq; what they teach besides goes to `memory`.

    A key is in `states` or in the graves, never in both. At the same seq a state replaces a state, and a tombstone
    wins.
    """
    graves, stale = memory.graves, memory.stale
    for key, value, tombstone_seq in changes:
        current = states.get(key)
        if value is None:
            wins = tombstone_seq >= (graves.get(key, 0) if current is None else seq_of(current))
            if wins:
                states.pop(key, None)
                graves[key] = tombstone_seq
                graves.move_to_end(key)
        else:
            seq = seq_of(value)
            wins = seq >= seq_of(current) if current is not None else seq > graves.get(key, -1)
            if wins:
                states[key] = value
                graves.pop(key, None)
        if wins:
            stale.discard(key)
        elif current is not None or key in graves:
            stale.add(key)
