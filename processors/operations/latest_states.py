"""The latest state of jobs, from the end of scrape.sagas backwards: what has changed last is found without the rest.

Of a job's states the highest seq holds, and a tombstone forgets every state up to its own: the rule by which the
coordinator's table is restored (processors/saga_table/changelog.py). As a rule the last record of a key is that one. It
isn't where an owner that was declared dead wrote after its successor; the successor publishes the better record again
within seconds, but whoever reads in between must not be told the older one.

Such a write betrays itself. An owner writes states in the order of their events, so the event offsets that they name rise
along a partition. A late write names an earlier event than records before it: where the offsets fall, or too little was
read to tell, the better record is looked for further back, as far as a late write can come after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from processors.errors import BadRecord
from processors.kafka.reader import Place, Reader
from processors.kafka.record import Record
from processors.messages.wire import decode_saga_fields
from processors.saga_table.changelog import seq_in, seq_of
from schemas.codec import HEADER_BYTES, codec

# A producer gives a record up after 35 s, and its process then; a stalled machine may take longer over the same.
LATE_MS = 120_000
# A state's own time is that of its event, stamped by the broker that leads the events; its record's is another broker's.
SKEW_MS = 2_000
# A late owner writes what it had in hand: of each partition at most a batch.
BEHIND = 512
_FIRST_CHUNK = 1_024
_LAST_CHUNK = 16_384
_BEGINNING_MS = -1
_END_MS = 2**63


@dataclass(slots=True)
class _Part:
    """How far one partition was read, from its end at `start` down to `read_from`."""

    first: int
    read_from: int
    size: int
    behind_ms: int = _END_MS
    """When the state was written that has BEHIND others before it among those that were read."""
    lowest_event: int = _END_MS
    """The first event that a record names which was read so far."""
    falls: bool = False
    """The events that records name don't rise along the partition."""

    @property
    def known_ms(self) -> int:
        """From this time on the latest state of every job of the partition is known."""
        if self.read_from <= self.first:
            return _BEGINNING_MS
        return self.behind_ms + (LATE_MS if self.falls else SKEW_MS)

    def take(self, chunk: list[Record]) -> None:
        """Note a chunk that lies before what was read."""
        highest, lowest, states = -1, self.lowest_event, 0
        for record in chunk:
            event = -1 if record.value is None else event_of(record.value)
            if event < 0:
                # A tombstone names no event: a thousand of them tell nothing of their writer.
                continue
            if states == BEHIND:
                self.behind_ms = record.timestamp_ms
            states += 1
            self.falls = self.falls or event < highest
            highest, lowest = max(highest, event), min(lowest, event)
        self.falls = self.falls or highest > self.lowest_event
        self.lowest_event = lowest


@dataclass(slots=True)
class LatestState:
    """The best record of a job so far; `value` None: it was forgotten."""

    seq: int
    value: bytes | None
    written_ms: int


@dataclass(slots=True)
class LatestStates:
    """Reads partitions of the topic backwards; `jobs` is what was found, by key. `only` leaves out all other keys."""

    reader: Reader
    places: Iterable[Place]
    only: bytes | None = None
    jobs: dict[bytes, LatestState] = field(default_factory=dict)
    _parts: dict[Place, _Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, bounds in self.reader.bounds(self.places).items():
            self._parts[place] = _Part(bounds.first, bounds.end, _FIRST_CHUNK)

    def known_ms(self, place: Place) -> int:
        """Return the time from which on everything of a partition is known."""
        return self._parts[place].known_ms

    def unknown_before(self, moment_ms: int) -> list[Place]:
        """Return the partitions of which something at a moment or later may not be known yet."""
        return [
            place for place, part in self._parts.items() if part.read_from > part.first and part.known_ms >= moment_ms
        ]

    def read_more(self, places: Iterable[Place]) -> list[bytes]:
        """Read on backwards, a larger chunk each time; return the keys about which something new was learnt."""
        ends = {place: self._parts[place].read_from for place in places}
        starts = {place: max(self._parts[place].first, end - self._parts[place].size) for place, end in ends.items()}
        chunks: dict[Place, list[Record]] = {place: [] for place in ends}
        for record in self.reader.read(starts, ends):
            chunks[record.topic, record.partition].append(record)
        changed: dict[bytes, None] = {}
        for place, chunk in chunks.items():
            part = self._parts[place]
            part.read_from, part.size = starts[place], min(2 * part.size, _LAST_CHUNK)
            part.take(chunk)
            for record in reversed(chunk):
                if self._take(record):
                    changed[record.key or b""] = None
        return list(changed)

    def _take(self, record: Record) -> bool:
        key, value = record.key or b"", record.value
        if self.only is not None and key != self.only:
            return False
        seq = seq_in(record.headers) if value is None else seq_of(value)
        if seq < 0:
            # A tombstone without a seq forgets nothing, and what is no state says nothing.
            return False
        known = self.jobs.get(key)
        if known is not None and (seq < known.seq or (seq == known.seq and (value is not None or known.value is None))):
            return False
        self.jobs[key] = LatestState(seq, value, record.timestamp_ms)
        return True


_CODEC = codec("saga_state")
# Whether each field before the event's offset is a string; all others there are Avro longs, or enums, which look the same.
_STRINGS_BEFORE = [
    field["type"] == "string" for field in takewhile(lambda field: field["name"] != "offset", _CODEC.schema["fields"])
]


def event_of(value: bytes) -> int:
    """Return the offset of the event that led to a state; -1 if it can't be read.

    By hand, as this is done for every record: decoding all of it takes ten times as long.
    """
    if not value.startswith(_CODEC.header):
        # Of another version: it says what it says.
        try:
            return int(decode_saga_fields(value)["offset"])
        except BadRecord:
            return -1
    try:
        at = HEADER_BYTES
        for is_string in _STRINGS_BEFORE:
            if is_string:
                length, at = _long(value, at)
                at += length
            else:
                at = _after(value, at)
        return _long(value, at)[0]
    except IndexError:
        return -1


def _after(value: bytes, at: int) -> int:
    """Return where an Avro long ends."""
    while value[at] > 0x7F:
        at += 1
    return at + 1


def _long(value: bytes, at: int) -> tuple[int, int]:
    """Return an Avro long, and where it ends."""
    number = shift = 0
    while (byte := value[at]) > 0x7F:
        number |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    number |= byte << shift
    return (number >> 1) ^ -(number & 1), at + 1
