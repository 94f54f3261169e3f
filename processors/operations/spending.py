"""Shows the ledger of paid calls, and removes entries that no saga needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from processors.errors import BadRecord
from processors.operations.engine import Engine, Session
from processors.operations.errors import RequestRefused
from processors.operations.queries import all_states
from processors.spend.book import COUNTED, SpendBook, SpendEntry, SpendState
from processors.spend.pruning import AT_ONCE, carried_key, carry, forgettable, sums, taken_over


@dataclass(frozen=True, slots=True)
class PipelineSpend:
    """What one pipeline has spent or reserved, and how many entries, and what cost, are in each state."""

    pipeline: str
    spent: Decimal
    states: Mapping[SpendState, tuple[int, Decimal]]

    @property
    def entries(self) -> int:
        """How many entries say so."""
        return sum(count for count, _ in self.states.values())


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The entries of one pipeline that were forgotten, or would be."""

    pipeline: str
    entries: int
    cost: Decimal


async def spent(engine: Engine) -> list[PipelineSpend]:
    """Return the sums of each pipeline, by name. Raises BadRecord."""
    return await engine.run(_spent)


async def forget(
    engine: Engine, older_than: timedelta, *, give_back: bool = False, dry_run: bool = False
) -> AsyncIterator[Forgotten]:
    """Forget old entries whose sagas are forgotten, and yield each pipeline's once it is done.

    What they cost stays in the sum, unless it is given back. A result that is forgotten is not reused: the same question
    is paid for again. Raises RequestRefused for an age below the retention of commands, BadRecord, DeliveryFailed.
    """
    least = engine.settings.retention_commands
    if older_than < least:
        # A command that is still on its topic may be delivered again, and must find what it has paid for.
        raise RequestRefused(
            f"an age of {older_than}: use at least {least.days}d, the retention of commands (SCRAPESAGA_RETENTION_COMMANDS)"
        )
    async for one in engine.stream(lambda session: _forget_all(session, older_than, give_back, dry_run)):
        yield one


def _spent(session: Session) -> list[PipelineSpend]:
    ledger = _Ledger(session)
    return [
        PipelineSpend(pipeline, ledger.book.total(pipeline), by_state)
        for pipeline, by_state in sorted(sums(ledger.entries()).items())
    ]


def _forget_all(session: Session, age: timedelta, give_back: bool, dry_run: bool) -> Iterator[Forgotten]:
    now = datetime.now(UTC)
    # The ledger first: a saga that begins after it can't be missed among those that need an entry of it.
    ledger = _Ledger(session)
    live = {state["job_id"] for state in all_states(session.reader, session.catalogue.sagas.name).all()}
    for pipeline, entries in sorted(forgettable(ledger.entries(), now - age, live, carried=give_back).items()):
        if not dry_run:
            for start in range(0, len(entries), AT_ONCE):
                _forget(session, ledger, pipeline, entries[start : start + AT_ONCE], now, give_back)
        cost = sum((entry.cost for entry in entries if entry.state in COUNTED), Decimal(0))
        yield Forgotten(pipeline, len(entries), cost)


class _Ledger:
    """The spend topic as it is now."""

    def __init__(self, session: Session) -> None:
        self.book = SpendBook()
        self._keys: set[str] = set()
        self._next = 0
        self._topic = session.catalogue.spend.name
        self._reader = session.reader
        self.read()

    def read(self) -> None:
        """Read on to the end. Raises BadRecord."""
        for record in self._reader.records(self._topic, offset=self._next):
            key = (record.key or b"").decode()
            self._next = record.offset + 1
            self._keys.add(key)
            self.book.fold(record.offset, key, None if record.value is None else SpendEntry.decode(record.value))

    def entries(self) -> list[SpendEntry]:
        """Return every entry that stands."""
        return [entry for key in self._keys if (entry := self.book.entry(key)) is not None]


def _forget(
    session: Session, ledger: _Ledger, pipeline: str, entries: list[SpendEntry], now: datetime, give_back: bool
) -> None:
    topic = session.catalogue.spend.name
    carried = ledger.book.entry(carried_key(pipeline))
    done = taken_over(carried)
    going = [entry for entry in entries if entry.key not in done]
    sender = session.producer()
    if going and not give_back:
        entry = carry(carried, pipeline, going, now)
        # Carried before it is forgotten: in between a cost counts twice, never not at all.
        sender.send(topic, entry.encode(), key=entry.key.encode(), partition=0)
        sender.finish()
        ledger.read()
        if not ledger.book.stands(entry, sender.last_offset):
            raise BadRecord(
                f"another process removes entries of {pipeline} at the same time; run this again when it has ended"
            )
    for entry in entries:
        sender.send(topic, None, key=entry.key.encode(), partition=0)
    sender.finish()
    ledger.read()
    settled = ledger.book.entry(carried_key(pipeline))
    if settled is not None and taken_over(settled):
        # They are gone: should one of the keys ever come back, it counts for itself.
        settled = carry(settled, pipeline, (), now)
        sender.send(topic, settled.encode(), key=settled.key.encode(), partition=0)
        sender.finish()
        ledger.read()
