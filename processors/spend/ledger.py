"""The spend ledger: nothing is paid twice, and no more than the cap, whichever workers ask at the same time.

A worker writes what it wants to do to the log of the topic `spend`, reads on to its own entry, and takes the verdict
that the book (processors/spend/book.py) gives at that place. An idempotency key goes to the API for one content only:

- the result is paid and known: it is returned, and the API isn't asked;
- an earlier run of the same job holds the result for the same content: the later run takes it over and pays nothing;
- an unused result for the same content lies about (its saga was compensated): this key claims it and pays nothing;
- an unused result whose answer was never learned: claimed too, and the API is asked *under that entry's key*, so that
  it answers from its own record if it charged then, and charges for the first time if it did not;
- otherwise the cost is reserved under the cap, and then the API is asked under this key.

The topic must keep superseded entries for a while (min.compaction.lag.ms of an hour or more): a verdict is taken from
the entries that lie before one's own. A tombstone takes a key's cost out of the sum: operators give a budget back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from processors.errors import BadRecord, RetryLater, StepFailed
from processors.spend.book import SpendBook, SpendEntry, SpendState
from processors.step import Log

Clock = Callable[[], datetime]
#: Has the API take back what it did under an idempotency key; nothing to take back is fine.
CancelCall = Callable[[str], Awaitable[None]]

#: How often a worker that lost a race tries again; each round some other worker has won, so more is a broken log.
ROUNDS = 32


@dataclass(frozen=True, slots=True)
class Order:
    """One paid call that a command asks for."""

    key: str
    seq: int
    pipeline: str
    step: str
    content_hash: str
    cost: Decimal
    cap: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Bought:
    """The result is there already, under `key`: nothing to send."""

    key: str
    response: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Send the call under idempotency key `key`; `again` if it may have been sent under it before."""

    key: str
    again: bool


class SpendLedger:
    """One worker's view of the ledger. Every operation costs one or two appends and reads, whatever the log holds."""

    def __init__(self, log: Log, *, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._log = log
        self._clock = clock
        self._book = SpendBook()
        self._reading = asyncio.Lock()
        self._reads_begun = 0
        self._reads: set[asyncio.Task[None]] = set()
        self._position = -1
        self._unreadable: dict[bytes, str] = {}

    async def open(self) -> None:
        """Read the whole log, so that the first order doesn't wait for it."""
        await self._catch_up()

    async def entry(self, key: str) -> SpendEntry | None:
        """Return what stands for a key now."""
        await self._catch_up()
        return self._book.entry(key)

    async def total(self, pipeline: str) -> Decimal:
        """Return what a pipeline has spent or reserved by now."""
        await self._catch_up()
        return self._book.total(pipeline)

    async def admit(self, order: Order, *, reuse: bool = True) -> Bought | Send:
        """Decide how an order is served. StepFailed: over the cap, or a newer command has acted for the key."""
        for _ in range(ROUNDS):
            await self._catch_up()
            admitted = await self._try_to_admit(order, reuse)
            if admitted is not None:
                return admitted
        raise RetryLater(f"{order.key}: other workers were faster in every try", effect_unknown=True)

    async def paid(self, order: Order, key: str, response: bytes) -> None:
        """Record the answer that came for an order under idempotency key `key`.

        If a newer command has acted for the order meanwhile, its entry stands: the caller's success still reaches the
        coordinator, which compensates it again.
        """
        for _ in range(ROUNDS):
            await self._catch_up()
            entry = self._book.entry(key)
            if key != order.key:
                if entry is None or entry.claimed_by != order.key:
                    return
                told = self._replacing(entry, order.key, SpendState.USED, known=True, response=response)
            elif entry is not None and _is_superseded(order, entry):
                return
            else:
                told = self._own(order, SpendState.PAID, known=True, response=response)
            if await self._write(told):
                return

    async def give_back(self, order: Order, sent: Send) -> None:
        """Record that sending had no effect: free the reservation, or the claim on another's result.

        A reservation under which an earlier attempt may have been sent is kept: only a compensation can settle it.
        """
        await self._catch_up()
        entry = self._book.entry(sent.key)
        if entry is None:
            return
        if sent.key != order.key and entry.claimed_by == order.key:
            await self._write(self._replacing(entry, order.key, SpendState.UNUSED))
        elif entry.state is SpendState.RESERVED and entry.seq <= order.seq and not sent.again:
            await self._write(self._own(order, SpendState.RELEASED))

    async def compensate(self, order: Order, cancel: CancelCall | None) -> str:
        """Undo what was done, or may have been done, for an order's key; return what that was, for the audit trail.

        With `cancel`, the API takes back the idempotency key that it is called with. Without, the result is marked
        unused, its cost still counted. A late run with a lower seq finds the entry that this leaves, and doesn't pay.
        """
        for _ in range(ROUNDS):
            await self._catch_up()
            undone = await self._try_to_compensate(order, cancel)
            if undone is not None:
                return undone
        raise RetryLater(f"{order.key}: other workers were faster in every try", effect_unknown=True)

    async def _try_to_admit(self, order: Order, reuse: bool) -> Bought | Send | None:
        """Decide by the current view; None if another worker was faster."""
        mine = self._book.entry(order.key)
        match mine:
            case SpendEntry(state=SpendState.PAID, response=bytes(response)):
                return Bought(order.key, response)
            case SpendEntry() if _is_superseded(order, mine):
                raise StepFailed(f"{mine.key}: a newer command has acted for this call ({mine.state.lower()})")
            case SpendEntry(state=SpendState.UNUSED, known=True, response=bytes(response)):
                again = self._own(order, SpendState.PAID, known=True, response=response)
                return Bought(order.key, response) if await self._write(again) else None
            case SpendEntry(state=SpendState.PAID | SpendState.UNUSED):
                return Send(order.key, again=True)
            case SpendEntry(state=SpendState.RESERVED):
                return await self._go_on(order, mine)
            case _:
                pass
        source = self._book.used_by(order.key)
        # The job's own first: a redrive that took another's would leave what the job has paid for to nobody.
        spare = self._book.of_an_earlier_run(order.key, order.content_hash) or self._book.claimable(order.content_hash)
        if source is None and reuse and (source := spare) is not None:
            claim = self._replacing(source, order.key, SpendState.USED, claim_seq=order.seq)
            if not await self._write(claim):
                return None
        if source is None:
            return await self._reserve(order)
        if source.known and source.response is not None:
            return Bought(source.key, source.response)
        return Send(source.key, again=True)

    async def _reserve(self, order: Order) -> Send | None:
        # Refused without a trace where that is clear already; the log decides the rest.
        if order.cap is not None and self._book.total(order.pipeline) + order.cost > order.cap:
            raise self._over_cap(order)
        if not await self._write(self._own(order, SpendState.RESERVED)):
            return None
        if not self._book.is_granted(order.key):
            raise await self._withdraw(order)
        return Send(order.key, again=False)

    async def _go_on(self, order: Order, mine: SpendEntry) -> Send:
        """Take up the reservation of an earlier attempt, of this process or of one that is gone."""
        if not self._book.is_granted(order.key) and not mine.repaired:
            raise await self._withdraw(order)
        # Compaction takes entries away in front of others, so the verdict on an old reservation may be too kind (never
        # too strict): it holds only if all that counts by now, refused ones not withdrawn yet too, is within the cap.
        if order.cap is not None and self._book.total(order.pipeline) > order.cap:
            raise RetryLater(self._over_cap(order).reason, effect_unknown=True)
        return Send(order.key, again=True)

    async def _withdraw(self, order: Order) -> StepFailed:
        """Take back a reservation that was refused, under which nothing was ever sent."""
        refusal = self._over_cap(order)
        await self._write(self._own(order, SpendState.RELEASED))
        return refusal

    async def _try_to_compensate(self, order: Order, cancel: CancelCall | None) -> str | None:
        """Undo what the current view shows; None if another worker was faster."""
        mine = self._book.entry(order.key)
        source = self._book.used_by(order.key)
        if source is not None:
            if cancel is not None:
                await cancel(source.key)
            state = SpendState.UNUSED if cancel is None else SpendState.CANCELLED
            if not await self._write(self._replacing(source, order.key, state)):
                return None
        match mine:
            case None | SpendEntry(state=SpendState.RELEASED | SpendState.CANCELLED):
                if mine is None or mine.seq < order.seq:
                    fence = self._own(order, SpendState.RELEASED if mine is None else mine.state)
                    if not await self._write(fence):
                        return None
                if cancel is not None and source is None:
                    await cancel(order.key)
                return "no paid call stands" if source is None else f"handed back the result of {source.key}"
            case SpendEntry(state=SpendState.USED):
                return f"the paid result is used by {mine.claimed_by}"
            case SpendEntry(state=SpendState.UNUSED) if cancel is None:
                return "kept as unused"
            case _:
                if cancel is not None:
                    await cancel(order.key)
                state = SpendState.UNUSED if cancel is None else SpendState.CANCELLED
                written = await self._write(
                    replace(self._replacing(mine, order.key, state), seq=max(mine.seq, order.seq))
                )
                return ("kept as unused" if cancel is None else "cancelled") if written else None

    def _over_cap(self, order: Order) -> StepFailed:
        return StepFailed(
            f"spend cap of pipeline {order.pipeline} reached: {self._book.total(order.pipeline)} of {order.cap} is "
            f"spent or reserved, this call costs {order.cost}; raise `cap` of step {order.step} to go on"
        )

    def _own(
        self, order: Order, state: SpendState, *, known: bool = False, response: bytes | None = None
    ) -> SpendEntry:
        current = self._book.entry(order.key)
        return SpendEntry(
            key=order.key,
            version=1 if current is None else current.version + 1,
            pipeline=order.pipeline,
            step=order.step,
            content_hash=order.content_hash,
            cost=order.cost,
            cap=order.cap,
            state=state,
            seq=order.seq,
            written_by=order.key,
            at=self._now(),
            known=known,
            response=response,
        )

    def _replacing(
        self,
        entry: SpendEntry,
        by: str,
        state: SpendState,
        *,
        claim_seq: int | None = None,
        known: bool | None = None,
        response: bytes | None = None,
    ) -> SpendEntry:
        """Return what follows on an entry. Its seq stays that of the key's own saga, whoever claims the result."""
        used = state is SpendState.USED
        kept = None if state is SpendState.CANCELLED else entry.response
        return replace(
            entry,
            version=entry.version + 1,
            state=state,
            claimed_by=by if used else "",
            claim_seq=(entry.claim_seq if claim_seq is None else claim_seq) if used else 0,
            known=entry.known if known is None else known,
            response=kept if response is None else response,
            written_by=by,
            repaired=False,
            at=self._now(),
        )

    def _now(self) -> str:
        return self._clock().isoformat(timespec="milliseconds")

    async def _write(self, entry: SpendEntry) -> bool:
        """Append an entry and read on to it; return whether it stands, or another worker was faster."""
        offset = await self._log.append(entry.key.encode(), entry.encode())
        await self._catch_up(offset)
        for standing in self._book.overruled():
            await self._log.append(standing.key.encode(), standing.encode())
        return self._book.stands(entry, offset)

    async def _catch_up(self, to_offset: int | None = None) -> None:
        # Shielded: an attempt that is cut off in mid-read would take entries with it that no later read returns, and
        # money that is missing in the book is spent twice.
        reading = asyncio.create_task(self._read(to_offset))
        self._reads.add(reading)
        reading.add_done_callback(self._reads.discard)
        await asyncio.shield(reading)
        if self._unreadable:
            key, why = next(iter(self._unreadable.items()))
            raise BadRecord(
                f"the spend log has an unreadable entry for key {key!r} ({why}): the sums may be wrong, so no paid "
                "call is made. Publish a tombstone or a correct entry under that key"
            )

    async def _read(self, to_offset: int | None) -> None:
        begun_before = self._reads_begun
        async with self._reading:
            if to_offset is None:
                # A read to the end that began while this one waited has seen all that this one has to see.
                if self._reads_begun != begun_before:
                    return
                self._reads_begun += 1
            elif self._position >= to_offset:
                return
            for offset, key, value in await self._log.catch_up(to_offset):
                self._fold(offset, key, value)
                self._position = max(self._position, offset)

    def _fold(self, offset: int, key: bytes, value: bytes | None) -> None:
        self._unreadable.pop(key, None)
        try:
            entry = None if value is None else SpendEntry.decode(value)
            name = key.decode()
            if entry is not None and entry.key != name:
                raise BadRecord(f"it is about {entry.key}")
            self._book.fold(offset, name, entry)
        except (BadRecord, UnicodeDecodeError) as error:
            self._unreadable[key] = f"offset {offset}: {error}"


def _is_superseded(order: Order, mine: SpendEntry) -> bool:
    return mine.seq > order.seq or mine.state in (SpendState.CANCELLED, SpendState.USED)
