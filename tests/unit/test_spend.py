"""The spend ledger: strict caps, one payment for each key, results reused, whoever asks and whatever was compacted."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.errors import BadRecord, RetryLater, StepError, StepFailed
from processors.spend.book import COUNTED, SpendBook, SpendEntry, SpendState
from processors.spend.ledger import Bought, Order, Send, SpendLedger
from processors.testing import MemoryHost, MemoryLog

pytestmark = pytest.mark.timeout(60)
live = pytest.mark.asyncio

ONE = Decimal(1)


def order(key: str, *, seq: int = 1, content_hash: str = "", cost: Decimal = ONE, cap: Decimal | None = None) -> Order:
    """An order of pipeline "shop"; each key asks for content of its own unless told otherwise."""
    return Order(key, seq, "shop", "enrich", content_hash or f"content of {key}", cost, cap)


def ledger(host: MemoryHost) -> SpendLedger:
    """The ledger of another worker on the same log."""
    return SpendLedger(host.log("spend"))


async def buy(books: SpendLedger, wanted: Order, answer: bytes = b'{"a":1}') -> Bought | Send:
    """Pay for an order as enrich does."""
    admitted = await books.admit(wanted)
    if isinstance(admitted, Send):
        await books.paid(wanted, admitted.key, answer)
    return admitted


@live
async def test_a_paid_key_is_never_sent_again() -> None:
    """A redelivered command gets the stored answer, in this worker and in one that starts later."""
    host = MemoryHost()
    books = ledger(host)
    assert await buy(books, order("a")) == Send("a", again=False)
    assert await books.admit(order("a")) == Bought("a", b'{"a":1}')
    assert await books.admit(order("a", seq=7)) == Bought("a", b'{"a":1}')
    host.compact("spend")
    assert await ledger(host).admit(order("a")) == Bought("a", b'{"a":1}')


@live
async def test_a_reservation_without_an_answer_is_sent_under_the_same_key() -> None:
    """After a crash in mid-call the same key is sent again, and it is known that it may have been sent before."""
    host = MemoryHost()
    await ledger(host).admit(order("a"))
    assert await ledger(host).admit(order("a")) == Send("a", again=True)


@live
async def test_the_cap_holds_to_the_last_cent() -> None:
    """What fits exactly is granted, one cent more is not, and the refusal says what is spent of what."""
    books = ledger(MemoryHost())
    cap = Decimal("0.03")
    for key in "abc":
        await buy(books, order(key, cost=Decimal("0.01"), cap=cap))
    with pytest.raises(StepFailed, match=r"spend cap of pipeline shop reached: 0\.03 of 0\.03"):
        await books.admit(order("d", cost=Decimal("0.01"), cap=cap))
    assert await books.total("shop") == cap


@live
async def test_what_is_released_or_cancelled_can_be_spent_again() -> None:
    """A call without effect and one that the API took back free their cost; an unused result doesn't."""
    books = ledger(MemoryHost())
    sent = await books.admit(order("a", cap=ONE))
    assert isinstance(sent, Send)
    await books.give_back(order("a", cap=ONE), sent)
    await buy(books, order("b", cap=ONE))
    await books.compensate(order("b", seq=2, cap=ONE), cancel=_accepts)
    await buy(books, order("c", cap=ONE))
    await books.compensate(order("c", seq=2, cap=ONE), cancel=None)
    with pytest.raises(StepFailed, match="cap"):
        await books.admit(order("d", cap=ONE))


@live
async def test_workers_that_ask_at_the_same_time_share_one_cap() -> None:
    """Of twenty workers that ask at once exactly as many are granted as the cap pays for."""
    host = MemoryHost()
    cap = Decimal(7)
    workers = [ledger(host) for _ in range(20)]
    for worker in workers:
        await worker.open()
    found = await asyncio.gather(
        *(worker.admit(order(f"k{n}", cap=cap)) for n, worker in enumerate(workers)), return_exceptions=True
    )
    assert sum(isinstance(result, Send) for result in found) == 7
    assert all(isinstance(result, Send | StepFailed) for result in found)
    assert await ledger(host).total("shop") == cap


@live
async def test_an_unused_result_is_used_by_the_next_with_the_same_content() -> None:
    """After a compensation the next order for the same content pays nothing, and the total stays."""
    host = MemoryHost()
    books = ledger(host)
    await buy(books, order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    host.compact("spend")
    other = ledger(host)
    assert await other.admit(order("b", content_hash="x", cap=ONE)) == Bought("a", b'{"a":1}')
    assert await other.admit(order("b", content_hash="x", cap=ONE)) == Bought("a", b'{"a":1}')
    assert await other.total("shop") == ONE
    entry = await books.entry("a")
    assert entry is not None
    assert (entry.state, entry.claimed_by) == (SpendState.USED, "b")


@live
async def test_a_later_run_of_a_job_uses_what_the_job_has_paid_for() -> None:
    """A redrive asks for the same content under a new key: no second payment, and the run after that pays none either."""
    host = MemoryHost()
    books = ledger(host)
    await buy(books, order("job:1:enrich", content_hash="x"))
    assert await buy(books, order("job:2:enrich", seq=9, content_hash="x")) == Bought("job:1:enrich", b'{"a":1}')
    host.compact("spend")
    again = ledger(host)
    assert await again.admit(order("job:2:enrich", seq=9, content_hash="x")) == Bought("job:1:enrich", b'{"a":1}')
    assert await again.admit(order("job:3:enrich", seq=20, content_hash="x")) == Bought("job:1:enrich", b'{"a":1}')
    assert await again.total("shop") == ONE
    with pytest.raises(StepFailed, match="newer command"):
        await again.admit(order("job:1:enrich", content_hash="x"))


@live
async def test_the_failure_of_a_later_run_takes_the_jobs_payment_back() -> None:
    """The run that uses an earlier one's result hands that result back: the API is asked to cancel the key that it billed."""
    books = ledger(MemoryHost())
    cancelled: list[str] = []

    async def cancel(key: str) -> None:
        cancelled.append(key)

    await buy(books, order("job:1:enrich", content_hash="x"))
    await buy(books, order("job:2:enrich", seq=9, content_hash="x"))
    await books.compensate(order("job:2:enrich", seq=12, content_hash="x"), cancel)
    assert "job:1:enrich" in cancelled
    assert await books.total("shop") == 0


@live
@pytest.mark.parametrize(
    "other",
    [
        order("job:2:enrich", seq=9, content_hash="y"),
        order("another:2:enrich", seq=9, content_hash="x"),
        order("job:0:enrich", seq=9, content_hash="x"),
        order("job:2:classify", seq=9, content_hash="x"),
    ],
    ids=lambda one: f"{one.key} {one.content_hash}",
)
async def test_only_a_later_run_of_the_same_job_and_content_shares_a_payment(other: Order) -> None:
    """Other content, another job or step, or an earlier run pays for itself."""
    books = ledger(MemoryHost())
    await buy(books, order("job:1:enrich", content_hash="x"))
    assert await books.admit(other) == Send(other.key, again=False)


@live
async def test_other_content_and_reuse_off_pay_for_themselves() -> None:
    """A result is used for the very same content only, and not by a step that doesn't want it."""
    books = ledger(MemoryHost())
    await buy(books, order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    assert await books.admit(order("b", content_hash="y")) == Send("b", again=False)
    assert await books.admit(order("c", content_hash="x"), reuse=False) == Send("c", again=False)


@live
async def test_one_unused_result_goes_to_one_of_many() -> None:
    """Ten workers claim one result at once: one gets it, the others pay."""
    host = MemoryHost()
    books = ledger(host)
    await buy(books, order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    workers = [ledger(host) for _ in range(10)]
    for worker in workers:
        await worker.open()
    found = await asyncio.gather(*(w.admit(order(f"k{n}", content_hash="x")) for n, w in enumerate(workers)))
    assert sum(isinstance(result, Bought) for result in found) == 1
    assert await ledger(host).total("shop") == Decimal(10)


@live
async def test_a_result_handed_back_can_be_used_again() -> None:
    """The saga that used another's result is undone too: the result waits for a third, and is paid once in all."""
    host = MemoryHost()
    books = ledger(host)
    await buy(books, order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    await books.admit(order("b", content_hash="x"))
    await books.compensate(order("b", seq=9, content_hash="x"), cancel=None)
    await books.compensate(order("b", seq=9, content_hash="x"), cancel=None)
    assert await books.admit(order("c", content_hash="x")) == Bought("a", b'{"a":1}')
    assert await books.total("shop") == ONE
    # The first saga's compensation, repeated: the result is the third's by now.
    assert "c" in await books.compensate(order("a", seq=6, content_hash="x"), cancel=None)
    assert isinstance(await books.admit(order("d", content_hash="x")), Send)


@live
async def test_an_unknown_outcome_is_asked_again_under_its_own_key() -> None:
    """Nobody knows whether the first call was charged: the next asks under the first's key, and counts it once."""
    host = MemoryHost()
    books = ledger(host)
    await books.admit(order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    wanted = order("b", content_hash="x", cap=ONE)
    assert await books.admit(wanted) == Send("a", again=True)
    assert await ledger(host).admit(wanted) == Send("a", again=True)
    await books.paid(wanted, "a", b'{"late":1}')
    assert await ledger(host).admit(wanted) == Bought("a", b'{"late":1}')
    assert await books.total("shop") == ONE


@live
async def test_a_claim_given_back_leaves_the_unknown_outcome_to_others() -> None:
    """A call under another's key that had no effect doesn't keep that key from the next."""
    books = ledger(MemoryHost())
    await books.admit(order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    sent = await books.admit(order("b", content_hash="x"))
    assert isinstance(sent, Send)
    await books.give_back(order("b", content_hash="x"), sent)
    assert await books.admit(order("c", content_hash="x")) == Send("a", again=True)


@live
async def test_a_reservation_that_may_have_been_sent_is_not_given_back() -> None:
    """Only a compensation can settle a call that an earlier attempt may have made."""
    host = MemoryHost()
    await ledger(host).admit(order("a"))
    books = ledger(host)
    sent = await books.admit(order("a"))
    assert isinstance(sent, Send)
    await books.give_back(order("a"), sent)
    assert await books.total("shop") == ONE


@live
async def test_a_compensation_before_the_call_keeps_a_late_run_from_paying() -> None:
    """A zombie with a lower seq finds what the compensation left, and is stopped before it sends."""
    host = MemoryHost()
    zombie = ledger(host)
    await zombie.open()
    await ledger(host).compensate(order("a", seq=9), cancel=None)
    with pytest.raises(StepFailed, match="newer command"):
        await zombie.admit(order("a", seq=5))
    assert await zombie.total("shop") == Decimal(0)


@live
async def test_a_late_payment_does_not_undo_a_compensation() -> None:
    """An answer that arrives after the compensation is overruled, and a compacted log agrees."""
    host = MemoryHost()
    zombie, books = ledger(host), ledger(host)
    await zombie.admit(order("a", seq=5, content_hash="x"))
    await books.compensate(order("a", seq=9), cancel=_accepts)
    await zombie.paid(order("a", seq=5, content_hash="x"), "a", b'{"late":1}')
    for reader in (zombie, books):
        entry = await reader.entry("a")
        assert entry is not None
        assert entry.state is SpendState.CANCELLED
    host.compact("spend")
    entry = await ledger(host).entry("a")
    assert entry is not None
    assert (entry.state, entry.seq) == (SpendState.CANCELLED, 9)


@live
async def test_a_zombie_cannot_take_back_a_result_that_went_on() -> None:
    """A claimant whose saga was undone meanwhile can't take the result from the one who has it now."""
    host = MemoryHost()
    books = ledger(host)
    await books.admit(order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    zombie = ledger(host)
    assert await zombie.admit(order("b", seq=3, content_hash="x")) == Send("a", again=True)
    await books.compensate(order("b", seq=9, content_hash="x"), cancel=None)
    assert await buy(books, order("c", content_hash="x")) == Send("a", again=True)
    await zombie.paid(order("b", seq=3, content_hash="x"), "a", b'{"zombie":1}')
    host.compact("spend")
    entry = await ledger(host).entry("a")
    assert entry is not None
    assert entry.claimed_by == "c"
    with pytest.raises(StepFailed, match="newer command"):
        await zombie.admit(order("b", seq=3, content_hash="x"))


@live
async def test_a_claim_of_an_overtaken_command_is_overruled() -> None:
    """A compensation gets in between a claimant's look and its claim: the result stays free for others."""
    host = MemoryHost()
    books = ledger(host)
    await buy(books, order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)

    class Overtaken(MemoryLog):
        async def append(self, key: bytes, value: bytes | None) -> int:
            await books.compensate(order("b", seq=9, content_hash="x"), cancel=None)
            return await super().append(key, value)

    with pytest.raises(StepFailed, match="newer command"):
        await SpendLedger(Overtaken(host.broker, "spend")).admit(order("b", seq=3, content_hash="x"))
    assert await books.admit(order("c", content_hash="x")) == Bought("a", b'{"a":1}')
    host.compact("spend")
    assert await ledger(host).admit(order("c", content_hash="x")) == Bought("a", b'{"a":1}')


@live
async def test_a_cancel_that_fails_leaves_all_as_it_was() -> None:
    """The compensation can be tried again: nothing is recorded before the API has agreed."""

    async def fails(_key: str) -> None:
        raise RetryLater("down")

    books = ledger(MemoryHost())
    await buy(books, order("a"))
    with pytest.raises(RetryLater):
        await books.compensate(order("a", seq=2), cancel=fails)
    entry = await books.entry("a")
    assert entry is not None
    assert entry.state is SpendState.PAID
    assert await books.compensate(order("a", seq=2), cancel=_accepts) == "cancelled"


@live
async def test_a_reservation_left_over_the_cap_is_withdrawn_after_a_crash() -> None:
    """A worker that died between its refusal and the withdrawal neither pays later nor blocks the budget."""
    host = MemoryHost()
    books = ledger(host)
    await buy(books, order("a", cap=ONE))
    paid = await books.entry("a")
    assert paid is not None
    stuck = replace(
        paid,
        key="b",
        version=1,
        written_by="b",
        content_hash="b",
        state=SpendState.RESERVED,
        known=False,
        response=None,
    )
    await host.log("spend").append(b"b", stuck.encode())
    host.compact("spend")
    with pytest.raises(StepFailed, match="cap") as caught:
        await ledger(host).admit(order("b", cap=ONE))
    assert not caught.value.effect_unknown
    assert await ledger(host).total("shop") == ONE


@live
async def test_an_old_reservation_is_not_trusted_over_the_cap() -> None:
    """Compaction moves payments behind a refused reservation: a restarted worker doesn't pay on its word."""
    host = MemoryHost()
    books = ledger(host)
    await books.admit(order("a", cap=ONE))
    reserved = await books.entry("a")
    assert reserved is not None
    await host.log("spend").append(b"b", replace(reserved, key="b", written_by="b", content_hash="b").encode())
    await books.paid(order("a", cap=ONE), "a", b"{}")
    host.compact("spend")
    with pytest.raises(RetryLater, match="cap") as caught:
        await ledger(host).admit(order("b", cap=ONE))
    assert caught.value.effect_unknown


@live
async def test_a_reader_that_was_away_agrees_with_those_that_were_not() -> None:
    """A worker that slept while entries were compacted away sees the same book as the others, and breaks nothing."""
    host = MemoryHost()
    sleeper, books = ledger(host), ledger(host)
    await buy(sleeper, order("a", content_hash="x"))
    await books.compensate(order("a", seq=5, content_hash="x"), cancel=None)
    await books.admit(order("b", seq=1, content_hash="x"))
    host.compact("spend")
    assert await buy(sleeper, order("c", content_hash="y")) == Send("c", again=False)
    for reader in (sleeper, books, ledger(host)):
        entry = await reader.entry("a")
        assert entry is not None
        assert (entry.state, entry.claimed_by) == (SpendState.USED, "b")


@live
async def test_a_stale_entry_that_comes_last_is_written_over() -> None:
    """What compaction would keep in place of the standing entry is repaired by whoever meets it."""
    host = MemoryHost()
    books = ledger(host)
    await books.admit(order("a"))
    stale = await books.entry("a")
    assert stale is not None
    await books.paid(order("a"), "a", b"{}")
    await host.log("spend").append(b"a", stale.encode())
    await buy(books, order("b"))
    host.compact("spend")
    assert await ledger(host).admit(order("a")) == Bought("a", b"{}")


@live
async def test_a_read_that_is_cut_off_loses_nothing() -> None:
    """An attempt that is cancelled in mid-read takes no entry with it: the money in them stays counted."""
    host = MemoryHost()
    await buy(ledger(host), order("a"))
    reading, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryLog):
        async def catch_up(self, to_offset: int | None = None) -> list[tuple[int, bytes, bytes | None]]:
            found = await super().catch_up(to_offset)
            reading.set()
            await go_on.wait()
            return found

    books = SpendLedger(Slow(host.broker, "spend"))
    attempt = asyncio.create_task(books.admit(order("b", cap=ONE)))
    await reading.wait()
    attempt.cancel()
    await asyncio.wait([attempt])
    go_on.set()
    with pytest.raises(StepFailed, match="cap"):
        await books.admit(order("b", cap=ONE))


@live
async def test_an_unreadable_entry_stops_all_spending() -> None:
    """Sums that can't be trusted pay nothing; the error names the key, and a tombstone under it is the way out."""
    host = MemoryHost()
    books = ledger(host)
    await host.log("spend").append(b"x", b"junk")
    with pytest.raises(BadRecord, match=r"b'x'.*tombstone"):
        await books.admit(order("a"))
    with pytest.raises(BadRecord):
        await books.admit(order("b"))
    await host.log("spend").append(b"x", None)
    assert isinstance(await books.admit(order("a")), Send)


@live
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
async def test_no_schedule_pays_twice_or_over_the_cap(seed: int) -> None:
    """Workers, crashes, compensations, cancellations and compactions in any order: the API's books stay right."""
    rng = random.Random(seed)
    host = MemoryHost()
    cap = Decimal(rng.randrange(1, 6))
    charged: dict[str, str] = {}
    cancelled: set[str] = set()

    async def cancel(key: str) -> None:
        cancelled.add(key)

    async def job(name: str) -> None:
        content_hash, seq = f"c{rng.randrange(3)}", 0
        for _ in range(rng.randrange(1, 5)):
            seq += 1
            books = rng.choice(workers) if rng.random() < 0.7 else ledger(host)
            wanted = order(name, seq=seq, content_hash=content_hash, cap=cap)
            try:
                admitted = await books.admit(wanted)
            except StepError:
                continue
            if isinstance(admitted, Bought):
                assert charged[admitted.key] == content_hash
                continue
            if rng.random() < 0.2:
                continue  # the worker died before it sent
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if admitted.key in cancelled:
                continue  # the API refuses
            assert charged.setdefault(admitted.key, content_hash) == content_hash, "one key, one content"
            real = sum(key not in cancelled for key in charged)
            assert real <= cap
            if rng.random() < 0.3:
                continue  # the worker died before it learned
            await asyncio.sleep(0)
            await books.paid(wanted, admitted.key, content_hash.encode())
        if rng.random() < 0.5:
            await rng.choice(workers).compensate(
                order(name, seq=seq + 1, content_hash=content_hash, cap=cap), cancel if rng.random() < 0.3 else None
            )

    workers = [ledger(host) for _ in range(3)]
    await asyncio.gather(*(job(f"k{n}") for n in range(8)))
    host.compact("spend")
    await asyncio.gather(*(job(f"k{n}") for n in range(8, 12)))
    books = ledger(host)
    assert await books.total("shop") >= sum(key not in cancelled for key in charged)


ENTRIES = st.builds(
    SpendEntry,
    key=st.sampled_from("abc"),
    version=st.integers(1, 5),
    pipeline=st.just("shop"),
    step=st.just("enrich"),
    content_hash=st.sampled_from("xy"),
    cost=st.sampled_from([Decimal("0.1"), Decimal(2)]),
    cap=st.sampled_from([None, ONE]),
    state=st.sampled_from(SpendState),
    seq=st.integers(0, 3),
    written_by=st.sampled_from("abc"),
    at=st.just("2026-03-01T12:00:00.000+00:00"),
    known=st.booleans(),
    claimed_by=st.sampled_from(["", "a", "b"]),
    claim_seq=st.integers(0, 3),
    repaired=st.booleans(),
    response=st.sampled_from([None, b"{}"]),
)


@given(st.lists(st.one_of(ENTRIES, st.sampled_from("abc")), max_size=40))
def test_the_total_is_the_sum_of_what_stands(log: list[SpendEntry | str]) -> None:
    """Whatever is folded, the running total equals the sum over the entries that count, and no fold raises."""
    book = SpendBook()
    for offset, item in enumerate(log):
        if isinstance(item, str):
            book.fold(offset, item, None)
        else:
            book.fold(offset, item.key, item)
        standing = [entry for key in "abc" if (entry := book.entry(key)) is not None]
        assert book.total("shop") == sum((e.cost for e in standing if e.state in COUNTED), Decimal(0))
        for content_hash in "xy":
            found = book.claimable(content_hash)
            assert found is None or found.state is SpendState.UNUSED


@given(ENTRIES)
def test_entries_survive_the_wire(entry: SpendEntry) -> None:
    """What is written is what is read, to the cent and the byte."""
    assert SpendEntry.decode(entry.encode()) == entry


async def _accepts(_key: str) -> None:
    """A cancel endpoint that agrees."""
