"""Finds records of other writers in partitions of the saga log that this process owns.

A process that was declared dead and doesn't know it, a zombie, goes on writing states until it notices. It can only
write what its successor writes or has written: states follow from the inbox. So what it writes does no harm to a
reader that keeps the highest seq, but compaction keeps the last record of a key, whatever its seq.

The owner knows the offsets of its own writes: offsets between them, or after the last, are somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from time import monotonic
from typing import NamedTuple

from processors.errors import ScrapesagaError
from processors.saga_table.changelog import seq_of
from processors.saga_table.changelog_reader import ChangelogReader, LogRecord

_log = logging.getLogger(__name__)


class OwnershipLost(ScrapesagaError):
    """Another process is ahead of this one on a partition that both believe they own: this one must stop."""


class Gap(NamedTuple):
    """Offsets that this process did not write, first to last."""

    first: int
    last: int


class WriterVerdict(StrEnum):
    """What a record of another writer means for the owner."""

    HARMLESS = "harmless"
    """It has the state of the table, or no state."""

    STALE = "stale"
    """The table has a newer state, which must be published again."""

    AHEAD = "ahead"
    """The record is newer than the table: the writer is ahead, by one event or because it is the owner."""


def gaps_between(known: int, own: Sequence[int]) -> tuple[int, list[Gap]]:
    """Given the last offset accounted for and the offsets of own writes after it: the new last offset and the gaps."""
    gaps: list[Gap] = []
    for offset in own:
        if offset > known + 1:
            gaps.append(Gap(known + 1, offset - 1))
        known = max(known, offset)
    return known, gaps


def judge(record: LogRecord, state: bytes | None, grave: int | None) -> WriterVerdict:
    """Compare a record of another writer with the table's state of its key, or with the seq up to which it was
    forgotten."""
    if record.value is not None:
        theirs = seq_of(record.value)
        if state is not None:
            ours = seq_of(state)
            return (
                WriterVerdict.AHEAD
                if theirs > ours
                else WriterVerdict.STALE
                if theirs < ours
                else WriterVerdict.HARMLESS
            )
        if grave is not None:
            return WriterVerdict.AHEAD if theirs > grave else WriterVerdict.STALE
        # A record that is not a state can't be ahead.
        return WriterVerdict.AHEAD if theirs >= 0 else WriterVerdict.HARMLESS
    if state is not None:
        return WriterVerdict.AHEAD if record.seq >= seq_of(state) else WriterVerdict.STALE
    if grave is not None and record.seq != grave:
        return WriterVerdict.AHEAD if record.seq > grave else WriterVerdict.STALE
    return WriterVerdict.HARMLESS


def keys_to_publish_again(judged: Iterable[tuple[LogRecord, WriterVerdict]]) -> list[bytes]:
    """The keys for which compaction would keep a wrong record, each once, in the order of the log."""
    return list(dict.fromkeys(record.key for record, verdict in judged if verdict is WriterVerdict.STALE))


@dataclass(slots=True)
class OffsetAccount:
    """Which offsets of one partition are accounted for: restored, written by this process, or examined."""

    last: int = -1
    """The last known offset."""

    gaps: list[Gap] = field(default_factory=list)
    """Offsets up to `last` that were not examined yet."""

    suspects: list[tuple[LogRecord, float]] = field(default_factory=list)
    """Records that are ahead of the table, with the clock when they were read."""

    @property
    def known(self) -> int:
        """The offset up to which all records are examined; a restart can continue from there."""
        return min(
            [self.last, *(gap.first - 1 for gap in self.gaps), *(record.offset - 1 for record, _ in self.suspects)]
        )

    def wrote(self, own: Sequence[int]) -> None:
        """Account for own writes; the offsets between them become gaps."""
        self.last, gaps = gaps_between(self.last, own)
        self.gaps += gaps

    def ends_at(self, end: int) -> None:
        """Account for the end of the partition: offsets that this process did not write become a gap."""
        if end - 1 > self.last:
            self.gaps.append(Gap(self.last + 1, end - 1))
            self.last = end - 1


# A key's state and the seq up to which it was forgotten: at most one of them is there.
StateOf = Callable[[bytes], tuple[bytes | None, int | None]]
# Sends the table's states of these keys, and returns the offsets.
Publish = Callable[[list[bytes]], Awaitable[list[int]]]


class FencingWatch:
    """Reads records of other writers, and publishes states again that compaction would lose."""

    def __init__(
        self,
        topic: str,
        client: Mapping[str, str | int | bool],
        *,
        patience: timedelta = timedelta(seconds=30),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`client` are librdkafka's connection settings. Whoever is ahead of this process for `patience` is the
        owner."""
        self._topic = topic
        self._client = client
        self._patience_s = patience.total_seconds()
        self._clock = clock
        self._reader: ChangelogReader | None = None
        self._one_at_a_time = asyncio.Lock()

    async def look_at_end(self, partition: int, account: OffsetAccount) -> None:
        """Account for the offsets after the last own write; ReadFailed."""
        async with self._one_at_a_time:
            _, end = await asyncio.to_thread(self._connected().bounds, partition)
        account.ends_at(end)

    async def examine(self, partition: int, account: OffsetAccount, state_of: StateOf, publish: Publish) -> None:
        """Examine and repair every gap; OwnershipLost if another writer stays ahead, ReadFailed, DeliveryFailed."""
        while account.gaps:
            # Publishing may find more gaps.
            gaps = list(account.gaps)
            records = [record for gap in gaps for record in await self._read(partition, gap)]
            judged = [(record, judge(record, *state_of(record.key))) for record in records]
            keys = keys_to_publish_again(judged)
            _log.warning(
                "foreign writes in the saga log: topic=%s partition=%d records=%d published_again=%d ahead=%d",
                *(self._topic, partition, len(records), len(keys), sum(v is WriterVerdict.AHEAD for _, v in judged)),
            )
            if keys:
                account.wrote(await publish(keys))
            del account.gaps[: len(gaps)]
            now = self._clock()
            account.suspects += [(record, now) for record, verdict in judged if verdict is WriterVerdict.AHEAD]
        # If the table has caught up, its state was written after the record in question: no repair is needed.
        account.suspects = [s for s in account.suspects if judge(s[0], *state_of(s[0].key)) is WriterVerdict.AHEAD]
        self._check_who_is_ahead(partition, account)

    async def close(self) -> None:
        """Close the connection."""
        async with self._one_at_a_time:
            reader, self._reader = self._reader, None
            if reader is not None:
                await asyncio.to_thread(reader.close)

    async def _read(self, partition: int, gap: Gap) -> list[LogRecord]:
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._connected().read_range, partition, gap.first, gap.last)

    def _connected(self) -> ChangelogReader:
        if self._reader is None:
            self._reader = ChangelogReader(self._topic, self._client)
        return self._reader

    def _check_who_is_ahead(self, partition: int, account: OffsetAccount) -> None:
        for record, seen_at in account.suspects:
            if self._clock() - seen_at >= self._patience_s:
                raise OwnershipLost(
                    f"Another process wrote {self._topic} [{partition}] offset {record.offset}, key {record.key!r}, "
                    f"and this one has not caught up with it for {self._patience_s:g} s: it isn't the owner any more. "
                    "Restart it; it then reads the log again and joins its group anew."
                )
