"""Keeps the spend ledger from growing for ever: which entries may be forgotten, and how their cost stays in the sum.

An entry is needed as long as its saga may act for its key, or another saga uses its result. After that it only answers
"this was bought before", and counts. Forgetting it is an operator's decision: what would have been reused is then bought
again. Its cost is carried into one entry a pipeline, so that a cap goes on to mean all that was ever spent; the carried
entry lists the keys that it has taken over, so that a run that broke off between it and the tombstones counts none twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from processors.errors import BadRecord
from processors.spend.book import COUNTED, SpendEntry, SpendState

# No idempotency key looks like it: those end in a run and a step.
_CARRIED = "carried:"
#: Keys that one carried entry lists: some 200 KB.
AT_ONCE = 2_000


def carried_key(pipeline: str) -> str:
    """Return the key of a pipeline's carried entry."""
    return _CARRIED + pipeline


def is_carried(entry: SpendEntry) -> bool:
    """Whether an entry is a sum of forgotten ones."""
    return entry.key == carried_key(entry.pipeline)


def forgettable(
    entries: Iterable[SpendEntry], before: datetime, live_jobs: Container[str], *, carried: bool = False
) -> dict[str, list[SpendEntry]]:
    """Return by pipeline the entries last written before a time that no saga needs any more, oldest first.

    A reservation stays, whatever its age: nobody knows what became of its call. `live_jobs` are those with a state.
    Sums of forgotten entries stay too, unless `carried`.
    """
    found: defaultdict[str, list[SpendEntry]] = defaultdict(list)
    for entry in entries:
        needed = _job_of(entry.key) in live_jobs or (entry.claimed_by and _job_of(entry.claimed_by) in live_jobs)
        stays = needed or entry.state is SpendState.RESERVED or (is_carried(entry) and not carried)
        if not stays and _written(entry) < before:
            found[entry.pipeline].append(entry)
    return {pipeline: sorted(some, key=_written) for pipeline, some in found.items()}


def taken_over(carried: SpendEntry | None) -> frozenset[str]:
    """Return the keys whose cost the carried entry holds, and whose tombstones may be missing. Raises BadRecord."""
    if carried is None or carried.response is None:
        return frozenset()
    try:
        return frozenset(msgspec.json.decode(carried.response, type=list[str]))
    except msgspec.DecodeError as error:
        raise BadRecord(f"{carried.key} lists no keys: {error}; no entry is removed") from error


def carry(carried: SpendEntry | None, pipeline: str, going: Sequence[SpendEntry], now: datetime) -> SpendEntry:
    """Return the carried entry that takes over entries which none has taken over yet."""
    at = now.isoformat(timespec="milliseconds")
    cost = sum((entry.cost for entry in going if entry.state in COUNTED), Decimal(0))
    keys = msgspec.json.encode([entry.key for entry in going])
    if carried is not None:
        return replace(
            carried, version=carried.version + 1, cost=carried.cost + cost, at=at, response=keys, repaired=False
        )
    key = carried_key(pipeline)
    return SpendEntry(
        key=key,
        version=1,
        pipeline=pipeline,
        step="",
        content_hash="",
        cost=cost,
        cap=None,
        state=SpendState.PAID,
        seq=0,
        written_by=key,
        at=at,
        response=keys,
    )


def sums(entries: Iterable[SpendEntry]) -> Mapping[str, Mapping[SpendState, tuple[int, Decimal]]]:
    """Return by pipeline and state how many entries there are, and what they cost."""
    found: defaultdict[str, defaultdict[SpendState, tuple[int, Decimal]]] = defaultdict(
        lambda: defaultdict(lambda: (0, Decimal(0)))
    )
    for entry in entries:
        count, cost = found[entry.pipeline][entry.state]
        found[entry.pipeline][entry.state] = (count + 1, cost + entry.cost)
    return found


def _job_of(key: str) -> str:
    return key.rsplit(":", 2)[0]


def _written(entry: SpendEntry) -> datetime:
    try:
        written = datetime.fromisoformat(entry.at)
    except ValueError as error:
        raise BadRecord(f"{entry.key} was written at {entry.at!r}, which is not a time; no entry is removed") from error
    return written if written.tzinfo else written.replace(tzinfo=UTC)
