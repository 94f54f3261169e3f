"""enrich against a paid API on loopback: paid once, taken back, reused, and honest about what it doesn't know."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aiohttp import web

from processors.demo.paid_api import PaidApi
from processors.demo.paid_faults import Mode, PaidFaults
from processors.demo.paid_ledger import InvoiceLedger, InvoiceStatus
from processors.errors import (
    ConfigurationError,
    PipelineError,
    RetryLater,
    StepError,
    StepFailed,
)
from processors.spend.book import SpendEntry, SpendState
from processors.spend.ledger import SpendLedger
from processors.step import StepCall
from processors.steps.enrich import Enrich
from processors.steps.enrich_params import EnrichParams
from processors.testing import MemoryHost, open_step, step_call

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

TOKEN = "tok-s3cr3t-99"
RECORD = {"title": "Tent AX-1", "brand": "Weissbach", "price": "100.00", "currency": "USD", "url": "http://x/p/1"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def worker() -> MemoryHost:
    """A worker's host that knows the API's token."""
    return MemoryHost(secrets={"API_TOKEN": TOKEN}, settings={"ALLOW_ADDRESSES": "127.0.0.1"})


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on loopback; yields its URL without the last slash."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def paid_api(**faults: Any) -> AsyncIterator[tuple[str, InvoiceLedger]]:
    """The sample paid API, failing as told; yields its URL and its books."""
    books = InvoiceLedger()
    async with served(PaidApi(books, token=TOKEN, faults=PaidFaults(**faults)).application()) as url:
        yield url, books


@asynccontextmanager
async def endpoint(handler: Handler) -> AsyncIterator[str]:
    """An API that answers every request by one handler."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    async with served(app) as url:
        yield url + "/enrich"


def opened(url: str, host: MemoryHost, **params: Any) -> AbstractAsyncContextManager[Enrich]:
    """The step, opened, with parameters read as from a pipeline."""
    return open_step(
        Enrich, {"url": url, "auth": {"bearer": "API_TOKEN"}, "cost": 0.002, **params}, name="enrich", host=host
    )


def call(job: str = "j1", *, seq: int = 3, timeout: float = 5.0, record: dict[str, Any] | None = None) -> StepCall:
    """A command of a job."""
    return step_call(
        "enrich",
        job_id=job,
        pipeline="shop",
        seq=seq,
        url="http://x/",
        timeout=timedelta(seconds=timeout),
        record=RECORD if record is None else record,
    )


CANCEL = {"method": "POST", "body": {"key": "{key}"}}


async def test_the_answer_is_merged_and_paid_once() -> None:
    """The answer's keys become fields; a redelivery gets the same from the ledger, in another worker too."""
    host = worker()
    async with paid_api() as (api, books):
        async with opened(api + "/enrich", host) as step:
            first = await step.run(call())
            assert (await step.run(call())).record == first.record
        async with opened(api + "/enrich", host.sibling()) as step:
            again = await step.run(call(seq=8))
    assert set(first.record) == {"category", "brand_normalised", "price_eur"}
    assert again.record == first.record
    assert again.note == "paid before"
    assert [invoice.charged_times for invoice in books.invoices] == [1]
    assert await SpendLedger(host.log("spend")).total("shop") == Decimal("0.002")
    assert host.total("paid_calls", step="enrich", outcome="paid") == 1
    assert host.total("spend", pipeline="shop") == pytest.approx(0.002)


@pytest.mark.parametrize("fault", ["error_after", "reset_after", "malformed_after", "hang_after"])
async def test_an_effect_without_an_answer_is_unknown_and_paid_once(fault: str) -> None:
    """The API charged and its answer was lost: the attempt says so, the next one gets the answer for no more money."""
    host = worker()
    async with paid_api(**{fault: 1.0}, faulty_attempts=1) as (api, books), opened(api + "/enrich", host) as step:
        with pytest.raises(RetryLater) as caught:
            await step.run(call(timeout=0.4))
        assert caught.value.effect_unknown
        assert len(books.invoices) == 1
        output = await step.run(call(seq=5))
    assert output.record
    assert [invoice.charged_times for invoice in books.invoices] == [1]


async def test_a_rate_limit_has_no_effect_and_frees_the_money() -> None:
    """429 waits as long as the API asks; while it waits, its money isn't held."""
    host = worker()
    async with paid_api(rate_limited=1.0) as (api, books), opened(api + "/enrich", host, cap="0.002") as step:
        with pytest.raises(RetryLater) as caught:
            await step.run(call())
        assert caught.value.after == timedelta(seconds=1)
        assert not caught.value.effect_unknown
        assert await SpendLedger(host.log("spend")).total("shop") == 0
        with pytest.raises(RetryLater):
            await step.run(call(seq=5))
        await step.run(call(seq=7))
    assert len(books.invoices) == 1


async def test_no_connection_has_no_effect() -> None:
    """Nothing was sent: no effect to undo, no money held."""
    host = worker()
    async with paid_api() as (api, _):
        pass
    async with opened(api + "/enrich", host) as step:
        with pytest.raises(RetryLater, match="no connection") as caught:
            await step.run(call())
    assert not caught.value.effect_unknown
    assert await SpendLedger(host.log("spend")).total("shop") == 0


async def test_a_refusal_fails_for_good_without_effect() -> None:
    """422 says why, is not tried again, and costs nothing."""
    host = worker()
    async with paid_api(permanent_rate=1.0) as (api, _), opened(api + "/enrich", host) as step:
        with pytest.raises(StepFailed, match=r"422.*can't be processed") as caught:
            await step.run(call())
    assert not caught.value.effect_unknown
    assert await SpendLedger(host.log("spend")).total("shop") == 0


async def test_a_refusal_after_an_unknown_attempt_is_still_unknown() -> None:
    """The second attempt is refused, but the first may have been charged: the saga has to compensate it."""
    answers = iter([500, 401])
    host = worker()

    async def flaky(_request: web.Request) -> web.Response:
        return web.Response(status=next(answers))

    async with endpoint(flaky) as url, opened(url, host) as step:
        with pytest.raises(RetryLater):
            await step.run(call())
        with pytest.raises(StepFailed) as caught:
            await step.run(call(seq=5))
    assert caught.value.effect_unknown
    assert await SpendLedger(host.log("spend")).total("shop") == Decimal("0.002")


async def test_the_cap_is_checked_before_any_call() -> None:
    """Over the cap nothing is sent, and the error says what is spent of what."""
    async with paid_api() as (api, books), opened(api + "/enrich", worker(), cap=0.005) as step:
        for job in ("a", "b"):
            await step.run(call(job))
        with pytest.raises(StepFailed, match=r"spend cap of pipeline shop reached: 0\.004 of 0\.005"):
            await step.run(call("c"))
        assert (await step.run(call("a"))).note == "paid before"
    assert len(books.invoices) == 2


async def test_a_compensation_cancels_at_the_api() -> None:
    """The API takes the payment back, the money can be spent again, and a repeat changes nothing."""
    host = worker()
    async with paid_api() as (api, books):
        cancel = {**CANCEL, "url": api + "/cancel"}
        async with opened(api + "/enrich", host, cancel=cancel) as step:
            await step.run(call())
            for seq in (9, 9, 11):
                await step.compensate(call(seq=seq))
            with pytest.raises(StepFailed, match="newer command"):
                await step.run(call(seq=3))
    assert [invoice.status for invoice in books.invoices] == [InvoiceStatus.CANCELLED]
    assert await SpendLedger(host.log("spend")).total("shop") == 0


async def test_a_compensation_cancels_a_call_whose_outcome_is_unknown() -> None:
    """Charged but never answered: cancelled by its key, without needing its reply."""
    async with paid_api(reset_after=1.0, faulty_attempts=1) as (api, books):
        cancel = {"url": api + "/charges/{key}", "method": "DELETE"}
        async with opened(api + "/enrich", worker(), cancel=cancel) as step:
            with pytest.raises(RetryLater):
                await step.run(call())
            with pytest.raises(RetryLater):
                await step.compensate(call(seq=9))
            await step.compensate(call(seq=9))
    assert [invoice.status for invoice in books.invoices] == [InvoiceStatus.CANCELLED]


async def test_a_compensation_without_a_call_keeps_a_late_one_from_being_made() -> None:
    """Nothing to cancel is fine, and a zombie's run with a lower seq never reaches the API."""
    host = worker()
    async with paid_api() as (api, books):
        cancel = {**CANCEL, "url": api + "/cancel"}
        async with (
            opened(api + "/enrich", host, cancel=cancel) as step,
            opened(api + "/enrich", host.sibling(), cancel=cancel) as zombie,
        ):
            await step.compensate(call(seq=9))
            with pytest.raises(StepFailed):
                await zombie.run(call(seq=3))
    assert books.invoices == ()


@pytest.mark.parametrize("status", [404, 410, 200])
async def test_nothing_to_cancel_is_accepted(status: int) -> None:
    """An API that doesn't know the key has nothing to take back."""

    async def api(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with endpoint(api) as url, opened(url, worker(), cancel={**CANCEL, "url": url}) as step:
        await step.compensate(call(seq=9))


async def test_a_cancel_that_fails_is_tried_again() -> None:
    """A broken cancel endpoint leaves the payment as it was; one that refuses says so."""
    answers = iter([200, 503, 403, 200])
    host = worker()

    async def api(_request: web.Request) -> web.Response:
        return web.json_response({}, status=next(answers))

    async with endpoint(api) as url, opened(url, host, cancel={**CANCEL, "url": url}) as step:
        await step.run(call())
        with pytest.raises(RetryLater, match="503"):
            await step.compensate(call(seq=9))
        with pytest.raises(StepFailed, match="403"):
            await step.compensate(call(seq=9))
        entry = await SpendLedger(host.log("spend")).entry("j1:1:enrich")
        assert entry is not None
        assert entry.state is SpendState.PAID
        await step.compensate(call(seq=9))


async def test_without_cancel_the_result_is_kept_for_the_next_job() -> None:
    """A compensated result is used by another job with the same content: one invoice for both."""
    host = worker()
    async with paid_api() as (api, books), opened(api + "/enrich", host, cap=0.002) as step:
        first = await step.run(call("a"))
        await step.compensate(call("a", seq=9))
        second = await step.run(call("b"))
        assert second.record == first.record
        assert second.note == "reused the result paid by a:1:enrich"
        assert second.data["cost"] == "0"
        with pytest.raises(StepFailed, match="cap"):
            await step.run(call("c"))
    assert len(books.invoices) == 1


async def test_an_unknown_call_is_asked_again_under_its_first_key() -> None:
    """Charged, never answered, compensated: the next job asks under the first's key, and the API charges nothing."""
    host = worker()
    async with paid_api(reset_after=1.0, faulty_attempts=1) as (api, books), opened(api + "/enrich", host) as step:
        with pytest.raises(RetryLater):
            await step.run(call("a"))
        await step.compensate(call("a", seq=9))
        output = await step.run(call("b"))
    assert output.record["category"]
    assert output.data["key"] == "a:1:enrich"
    assert [(invoice.key, invoice.charged_times) for invoice in books.invoices] == [("a:1:enrich", 1)]
    assert await SpendLedger(host.log("spend")).total("shop") == Decimal("0.002")


async def test_body_and_response_name_their_fields() -> None:
    """Only what is named is sent and taken, under the names given, from as deep as it lies."""
    sent: list[Any] = []

    async def api(request: web.Request) -> web.Response:
        sent.append((request.headers["X-Request"], await request.json()))
        return web.json_response({"result": [{"label": "tent"}], "usage": {"tokens": 7}, "noise": 1})

    async with endpoint(api) as url:
        response = {"label": "result.0.label", "tokens": "usage.tokens", "missing": "result.9.label"}
        common: dict[str, Any] = {"idempotency_header": "X-Request", "response": response}
        async with opened(url, worker(), body={"text": "title", "none": "absent"}, **common) as step:
            assert (await step.run(call())).record == {"label": "tent", "tokens": 7}
        async with opened(url, worker(), body=["brand", "absent"], method="PUT", **common) as step:
            await step.run(call())
    assert sent == [("j1:1:enrich", {"text": "Tent AX-1"}), ("j1:1:enrich", {"brand": "Weissbach"})]


async def test_an_answer_that_is_no_object_needs_a_response_mapping() -> None:
    """It is paid all the same, so the saga has to compensate it."""

    async def api(_request: web.Request) -> web.Response:
        return web.json_response([1, 2])

    async with endpoint(api) as url:
        async with opened(url, worker()) as step:
            with pytest.raises(StepFailed, match="response") as caught:
                await step.run(call())
            assert caught.value.effect_unknown
        async with opened(url, worker(), response={"first": "0"}) as step:
            assert (await step.run(call())).record == {"first": 1}


async def test_redirects_are_not_followed() -> None:
    """A redirect would carry the credentials elsewhere, and may not carry the body."""

    async def api(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://169.254.169.254/"})

    async with endpoint(api) as url, opened(url, worker()) as step:
        with pytest.raises(StepFailed, match="307"):
            await step.run(call())


async def test_sizes_of_answers_are_limited() -> None:
    """An answer that the ledger can't keep fails with its effect unknown; a large error page is just its status."""
    statuses = iter([200, 500])

    async def api(_request: web.Request) -> web.Response:
        return web.Response(text='"' + "x" * 50_000 + '"', status=next(statuses))

    async with endpoint(api) as url, opened(url, worker(), max_bytes="10KB") as step:
        with pytest.raises(StepFailed, match="max_bytes") as caught:
            await step.run(call("a"))
        assert caught.value.effect_unknown
        with pytest.raises(RetryLater, match="500") as later:
            await step.run(call("b"))
        assert later.value.effect_unknown


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"bearer": "API_TOKEN"}, "Authorization", f"Bearer {TOKEN}"),
        ({"basic": {"user": "u", "password": "API_TOKEN"}}, "Authorization", "Basic dTp0b2stczNjcjN0LTk5"),
        ({"header": {"name": "X-Api-Key", "secret": "API_TOKEN"}}, "X-Api-Key", TOKEN),
    ],
)
async def test_secrets_are_sent_and_never_shown(
    auth: dict[str, Any], name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The API gets the secret; outputs, errors, logs, reprs and the ledger don't, even if the API echoes it."""
    caplog.set_level(logging.DEBUG)
    host = worker()
    statuses = iter([200, 400, 500])

    async def echo(request: web.Request) -> web.Response:
        assert request.headers[name] == value
        return web.json_response(dict(request.headers), status=next(statuses))

    seen: list[str] = []
    async with endpoint(echo) as url, opened(url, host, auth=auth) as step:
        seen.append(repr(await step.run(call("a"))))
        for job in ("b", "c"):
            with pytest.raises(StepError) as caught:
                await step.run(call(job))
            seen.append(repr(caught.value) + repr(caught.value.__cause__))
        seen += [repr(step), repr(step.params), repr(vars(step))]
    seen += [record.getMessage() for record in caplog.records]
    seen += [str(record.value) for record in host.records("spend")]
    for text in seen:
        assert TOKEN not in text
        assert "dTp0b2stczNjcjN0LTk5" not in text


async def test_a_private_address_is_called_only_if_it_is_allowed() -> None:
    """By default no HTTP step reaches into the worker's own network: nothing is sent, nothing is paid, nothing reserved."""
    calls = 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({"category": "tents"})

    app = web.Application()
    app.router.add_post("/enrich", answer)
    async with served(app) as url:
        host = MemoryHost(secrets={"API_TOKEN": TOKEN})
        async with opened(f"{url}/enrich", host) as step:
            with pytest.raises(StepFailed, match="127.0.0.1 is loopback.*SCRAPESAGA_ALLOW_ADDRESSES") as refused:
                await step.run(call())
            assert not refused.value.effect_unknown
        assert calls == 0
        assert [SpendEntry.decode(value).state for value in host.compacted("spend").values()] == [SpendState.RELEASED]
        async with opened(f"{url}/enrich", host, allow_addresses=["127.0.0.0/8"]) as step:
            await step.run(call(seq=4))
        assert calls == 1


async def test_a_secret_that_is_missing_or_no_header_stops_the_worker() -> None:
    """The process stops before the first call and names the secret, not its value."""
    with pytest.raises(ConfigurationError, match="API_TOKEN"):
        async with opened("http://127.0.0.1:1/", MemoryHost()):
            pass
    with pytest.raises(ConfigurationError, match="API_TOKEN") as caught:
        async with opened("http://127.0.0.1:1/", MemoryHost(secrets={"API_TOKEN": "hunter2\n"})):
            pass
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"url": "ftp://x/"}, "url"),
        ({"url": "https://u:hunter2@x/"}, "auth"),
        ({"auth": {"bearer": "A", "header": {"name": "X", "secret": "B"}}}, "exactly one"),
        ({"auth": {"header": {"name": "X Y", "secret": "B"}}}, "X Y"),
        ({"cost": -1}, "cost"),
        ({"cost": "NaN"}, "cost"),
        ({"cost": 2, "cap": 1}, "cap"),
        ({"cap": 1}, "cost"),
        ({"headers": {"X": "a\nb"}}, "headers"),
        ({"cancel": {"url": "http://x/cancel"}}, "{key}"),
        ({"cancel": {"url": "nowhere/{key}"}}, "cancel"),
        ({"connect_timeout": "soon"}, "duration"),
        ({"max_bytes": "5MB"}, "max_bytes"),
    ],
)
async def test_parameters_that_cannot_work_are_refused(params: dict[str, Any], named: str) -> None:
    """`pipeline lint` names the parameter and what is wrong with it."""
    typed = msgspec.convert({"url": "http://x/", **params}, EnrichParams, strict=False)
    with pytest.raises(PipelineError) as caught:
        Enrich.check(typed)
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_parameters_survive_the_plan() -> None:
    """A plan keeps parameters as JSON: what it reads back is what was checked, to the cent."""
    params = msgspec.convert(
        {"url": "http://x/", "cost": 0.1, "cap": "2.50", "cancel": {"url": "http://x/{key}"}},
        EnrichParams,
        strict=False,
    )
    again = msgspec.json.decode(msgspec.json.encode(params), type=EnrichParams, strict=False)
    assert again == params
    assert again.cost == Decimal("0.1")


async def test_a_hanging_api_ends_the_attempt_itself() -> None:
    """The step says "unknown" before the engine would cut it off and know nothing."""
    async with paid_api(mode=Mode.HANG, hang_seconds=20) as (api, _), opened(api + "/enrich", worker()) as step:
        start = asyncio.get_running_loop().time()
        with pytest.raises(RetryLater) as caught:
            await step.run(call(timeout=0.3))
        assert asyncio.get_running_loop().time() - start < 0.3 + 1.0
    assert caught.value.effect_unknown


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cancels", [True, False])
async def test_chaos_leaves_the_books_of_both_sides_right(seed: int, cancels: bool) -> None:
    """Forty jobs over three workers and an API that fails half of the time: each key charged once, sums agree.

    With `cancel` the API keeps exactly what the jobs that were not undone cost. Without, the ledger counts what the
    API charged, and the cap holds.
    """
    rng, host = random.Random(seed), worker()
    faults = PaidFaults.spread(0.5, permanent_rate=0.1, hang_seconds=0.05)
    books = InvoiceLedger()
    cap = Decimal("0.05")
    app = PaidApi(books, token=TOKEN, seed=seed, faults=faults).application()
    async with served(app) as api:
        cancel = {**CANCEL, "url": api + "/cancel"} if cancels else None
        hosts = [host, host.sibling(), host.sibling()]
        auth = {"bearer": "API_TOKEN"}
        with_ = {"url": api + "/enrich", "auth": auth, "cost": "0.002", "cap": cap, "cancel": cancel}
        params = msgspec.convert(with_, EnrichParams, strict=False)
        steps = [Enrich("enrich", params, h) for h in hosts]
        for step in steps:
            await step.open()
        done: set[str] = set()

        async def job(name: str, record: dict[str, Any]) -> None:
            seq, unknown = 0, False
            for _ in range(rng.randrange(1, 6)):
                seq += 2
                try:
                    await rng.choice(steps).run(call(name, seq=seq, timeout=0.5, record=record))
                    if rng.random() < 0.6:
                        done.add(name)
                        return
                    break
                except RetryLater as error:
                    unknown |= error.effect_unknown
                except StepFailed as error:
                    if not (unknown or error.effect_unknown):
                        return
                    break
            for _ in range(20):
                try:
                    await rng.choice(steps).compensate(call(name, seq=seq + 2, timeout=0.5, record=record))
                    return
                except RetryLater:
                    continue
            raise AssertionError(f"{name} was never compensated")

        await asyncio.gather(
            *(job(f"k{n}", {**RECORD, "title": f"t{rng.randrange(25)}", "url": f"u{n % 25}"}) for n in range(40))
        )
        for step in steps:
            await step.close()
    charged = [invoice for invoice in books.invoices if invoice.status is InvoiceStatus.CHARGED]
    assert all(invoice.charged_times == 1 for invoice in books.invoices)
    total = await SpendLedger(host.log("spend")).total("shop")
    assert len(charged) * Decimal("0.002") <= total <= cap
    if cancels:
        assert {invoice.key for invoice in charged} <= {f"{name}:1:enrich" for name in done}
        assert len(charged) == len(done)
        assert total == len(done) * Decimal("0.002")


@pytest.mark.parametrize(
    ("job", "sent"),
    [
        ("j1", "j1:1:enrich"),
        ("a b%c", "a b%c:1:enrich"),
        ("Bücher-7", "UTF-8''B%C3%BCcher-7%3A1%3Aenrich"),
        (" j1", "UTF-8''%20j1%3A1%3Aenrich"),
        ("UTF-8''j1", "UTF-8''UTF-8%27%27j1%3A1%3Aenrich"),
    ],
)
async def test_a_key_that_no_header_can_carry_is_sent_encoded(job: str, sent: str) -> None:
    """Plain ASCII as it is, all else by RFC 8187, so that no two jobs have one key; a cancellation says the same."""
    got: list[tuple[str | None, str]] = []

    async def api(request: web.Request) -> web.Response:
        got.append((request.headers.get("Idempotency-Key"), await request.text()))
        return web.json_response({"category": "tents"})

    async with endpoint(api) as url, opened(url, worker(), cancel={"url": url, **CANCEL}) as step:
        await step.run(call(job))
        await step.compensate(call(job, seq=5))
    assert got[0][0] == sent
    assert msgspec.json.decode(got[1][1]) == {"key": sent}


async def test_credentials_of_enrich_go_where_the_pipeline_says() -> None:
    """The URL's own origin gets them; a cancel endpoint elsewhere only if it is listed."""
    away = {"url": "https://api.example/x", "auth": {"bearer": "API_TOKEN"}, "cost": 1,
            "cancel": {"url": "https://other.example/{key}"}}  # fmt: skip
    with pytest.raises(PipelineError, match="https://other.example is another origin"):
        Enrich.check(msgspec.convert(away, EnrichParams, strict=False))
    listed = {**away, "auth": {"bearer": "API_TOKEN", "origins": ["other.example"]}}
    Enrich.check(msgspec.convert(listed, EnrichParams, strict=False))
    Enrich.check(
        msgspec.convert({**away, "cancel": {"url": "https://API.example:443/{key}"}}, EnrichParams, strict=False)
    )
