"""The spend ledger: nothing is paid twice, and no more than the cap, whichever workers ask at the same time.

A worker writes what it wants to do to the log of the topic `spend`, reads on to its own entry, and takes the verdict
that the book (processors/spend_book.py) gives at that place. An idempotency key goes to the API at most for one content:

- the result is paid and known: it is returned, and the API isn't asked;
- an unused result for the same content lies about (its saga was compensated): this key claims it and pays nothing;
- an unused result whose answer was never learned: claimed too, and the API is asked *under that entry's key*, so that it
  answers from its own record if it charged then, and charges for the first time if it did not;
- otherwise the cost is reserved under the cap, and then the API is asked under this key.

The topic must keep superseded entries for a while (min.compaction.lag.ms of minutes): a verdict is taken from the entries
that lie before one's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from processors.errors import BadRecord, RetryLater, StepFailed
from processors.spend_book import SpendBook, SpendEntry, SpendState
from processors.step import Log

Clock = Callable[[], datetime]
#: Has the API take back what it did under an idempotency key; nothing to take back is fine.
Cancel = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Order:
    """One paid call that a command asks for."""

    key: str
    seq: int
    pipeline: str
    step: str
    content: str
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
        self._position = -1
        #: Where the log ended when it was first read; None before that.
        self._restored: int | None = None
        self._reads_begun = 0
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
        """Decide how an order is served. Raises StepFailed over the cap, or if a newer command has acted for its key."""
        await self._catch_up()
        mine = self._book.entry(order.key)
        match mine:
            case SpendEntry(state=SpendState.PAID, response=bytes(response)):
                return Bought(order.key, response)
            case SpendEntry() if _is_superseded(order, mine):
                raise _superseded(mine)
            case SpendEntry(state=SpendState.UNUSED, known=True, response=bytes(response)):
                await self._append(self._successor(mine, order, SpendState.PAID))
                return Bought(order.key, response)
            case SpendEntry(state=SpendState.PAID | SpendState.UNUSED):
                return Send(order.key, again=True)
            case SpendEntry(state=SpendState.RESERVED):
                return await self._go_on(order)
            case SpendEntry(state=SpendState.CLAIMING, source=source) if self._book.holder(source) == order.key:
                return await self._take(order, source)
            case _:
                return await self._serve_anew(order, reuse)

    async def _serve_anew(self, order: Order, reuse: bool) -> Bought | Send:
        while reuse and (source := self._book.claimable(order.content)) is not None:
            await self._append(self._new(order, SpendState.CLAIMING, cost=Decimal(0), source=source.key))
            mine = self._book.entry(order.key)
            if mine is not None and mine.state is not SpendState.CLAIMING:
                raise _superseded(mine)
            if self._book.holder(source.key) == order.key:
                return await self._take(order, source.key)
        # Refused without a trace where that is clear already; the log decides the rest.
        if order.cap is not None and self._book.total(order.pipeline) + order.cost > order.cap:
            raise self._over_cap(order)
        offset = await self._append(self._new(order, SpendState.RESERVED))
        place, granted = self._book.verdict(order.key) or (-1, False)
        if place < offset:
            raise RetryLater(f"{order.key}: another worker has acted for this call", effect_unknown=True)
        if not granted:
            raise await self._withdraw(order)
        return Send(order.key, again=False)

    async def _go_on(self, order: Order) -> Send:
        """Take up the reservation of an earlier attempt, of this process or of one that is gone."""
        place, granted = self._book.verdict(order.key) or (-1, False)
        if not granted:
            raise await self._withdraw(order)
        # Compaction takes entries away in front of others: the verdict on an old reservation may be too kind, never
        # too strict. One from before this process started holds only if all that counts by now is within the cap.
        old = self._restored is None or place <= self._restored
        if old and order.cap is not None and self._book.total(order.pipeline) > order.cap:
            raise self._over_cap(order, effect_unknown=True)
        return Send(order.key, again=True)

    async def _withdraw(self, order: Order) -> StepFailed:
        """Take back a reservation that was refused, under which nothing was ever sent."""
        refusal = self._over_cap(order)
        await self._append(self._new(order, SpendState.RELEASED))
        return refusal

    async def _take(self, order: Order, key: str) -> Bought | Send:
        source = self._book.entry(key)
        if source is None or not source.known or source.response is None:
            return Send(key, again=True)
        if source.state is not SpendState.USED:
            await self._append(self._passed_on(source, order.key, source.response))
            if self._book.holder(key) != order.key:
                raise RetryLater(f"{order.key}: the result of {key} is no longer to be had")
        return Bought(key, source.response)

    async def paid(self, order: Order, key: str, response: bytes) -> None:
        """Record the answer that came for an order under idempotency key `key`.

        If a newer command has acted for the order meanwhile, its entry stands: the caller's success still reaches the
        coordinator, which compensates it again.
        """
        if key == order.key:
            await self._append(self._new(order, SpendState.PAID, known=True, response=response))
            return
        await self._catch_up()
        source = self._book.entry(key)
        if source is not None:
            await self._append(self._passed_on(source, order.key, response))

    async def give_back(self, order: Order, sent: Send) -> None:
        """Record that sending had no effect: free the reservation, or the claim on another's result.

        A reservation under which an earlier attempt may have been sent is kept: only a compensation can settle it.
        """
        if sent.again and sent.key == order.key:
            return
        await self._append(self._new(order, SpendState.RELEASED))

    async def compensate(self, order: Order, cancel: Cancel | None) -> str:
        """Undo what was done, or may have been done, for an order's key; return what that was, for the audit trail.

        With `cancel`, the API takes back the idempotency key that it is called with. Without, the result is marked
        unused, its cost still counted. A late run with a lower seq finds the entry that this leaves, and doesn't pay.
        """
        await self._catch_up()
        mine = self._book.entry(order.key)
        match mine:
            case None | SpendEntry(state=SpendState.RELEASED | SpendState.CANCELLED):
                if mine is None or mine.seq < order.seq:
                    await self._append(self._new(order, SpendState.RELEASED if mine is None else mine.state))
                if cancel is not None:
                    await cancel(order.key)
                return "no paid call stands"
            case SpendEntry(state=SpendState.CLAIMING):
                return await self._return_claim(order, mine.source, cancel)
            case SpendEntry(state=SpendState.USED):
                return f"the paid result is used by {mine.claimed_by}"
            case _ if cancel is not None:
                await cancel(order.key)
                await self._append(self._successor(mine, order, SpendState.CANCELLED))
                return "cancelled"
            case _:
                if mine.state is not SpendState.UNUSED:
                    await self._append(self._successor(mine, order, SpendState.UNUSED))
                return "kept as unused"

    async def _return_claim(self, order: Order, source_key: str, cancel: Cancel | None) -> str:
        source = self._book.entry(source_key)
        if source is not None and self._book.holder(source_key) == order.key:
            if cancel is not None:
                await cancel(source_key)
                await self._append(self._handed_back(source, order.key, SpendState.CANCELLED))
            elif source.state is SpendState.USED:
                await self._append(self._handed_back(source, order.key, SpendState.UNUSED))
        # Last: as long as this key claims, a repeat of the compensation finds the source again.
        await self._append(self._new(order, SpendState.RELEASED))
        return "cancelled" if cancel is not None else "kept as unused"

    def _over_cap(self, order: Order, *, effect_unknown: bool = False) -> StepFailed:
        return StepFailed(
            f"spend cap of pipeline {order.pipeline} reached: {self._book.total(order.pipeline)} of {order.cap} is spent "
            f"or reserved, this call costs {order.cost}; raise `cap` of step {order.step} to go on",
            effect_unknown=effect_unknown,
        )

    def _new(
        self,
        order: Order,
        state: SpendState,
        *,
        cost: Decimal | None = None,
        known: bool = False,
        source: str = "",
        response: bytes | None = None,
    ) -> SpendEntry:
        return SpendEntry(
            key=order.key,
            pipeline=order.pipeline,
            step=order.step,
            content=order.content,
            cost=order.cost if cost is None else cost,
            cap=order.cap,
            state=state,
            seq=order.seq,
            written_by=order.key,
            at=self._now(),
            known=known,
            source=source,
            response=response,
        )

    def _successor(self, mine: SpendEntry, order: Order, state: SpendState) -> SpendEntry:
        return replace(
            mine,
            state=state,
            seq=max(mine.seq, order.seq),
            claimed_by="",
            written_by=order.key,
            at=self._now(),
            response=None if state is SpendState.CANCELLED else mine.response,
        )

    def _passed_on(self, source: SpendEntry, to: str, response: bytes) -> SpendEntry:
        # The seq stays the source's: it fences the commands of that key's own saga, not those of the one that claims.
        return replace(
            source,
            state=SpendState.USED,
            claimed_by=to,
            written_by=to,
            known=True,
            response=response,
            at=self._now(),
        )

    def _handed_back(self, source: SpendEntry, by: str, state: SpendState) -> SpendEntry:
        return replace(source, state=state, claimed_by="", written_by=by, at=self._now())

    def _now(self) -> str:
        return self._clock().isoformat(timespec="milliseconds")

    async def _append(self, entry: SpendEntry) -> int:
        """Write an entry and read on to it; then write again what stands wherever a stale entry came last."""
        offset = await self._log.append(entry.key.encode(), entry.encode())
        await self._catch_up(offset)
        for standing in self._book.overruled():
            await self._log.append(standing.key.encode(), standing.encode())
        return offset

    async def _catch_up(self, to_offset: int | None = None) -> None:
        begun_before = self._reads_begun
        async with self._reading:
            # A read to the end that began while this one waited has seen all that this one has to see.
            if to_offset is None and self._reads_begun == begun_before:
                self._reads_begun += 1
                await self._read(None)
                if self._restored is None:
                    self._restored = self._position
            elif to_offset is not None and self._position < to_offset:
                await self._read(to_offset)
        if self._unreadable:
            key, why = next(iter(self._unreadable.items()))
            raise BadRecord(
                f"the spend log has an unreadable entry for key {key!r} ({why}): sums can't be trusted, so no paid call "
                "is made. Publish a tombstone or a right entry under that key"
            )

    async def _read(self, to_offset: int | None) -> None:
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


def _superseded(mine: SpendEntry) -> StepFailed:
    return StepFailed(f"{mine.key}: a newer command has acted for this call ({mine.state.lower()})")
