"""A paid enrichment API on loopback: charges once per idempotency key, refunds, and fails as real ones do."""

import asyncio
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hmac import compare_digest

import msgspec
from aiohttp import web

from processors.demo.paid_faults import Mode, PaidFault, PaidFaults, share
from processors.demo.paid_ledger import Invoice, InvoiceLedger, InvoiceStatus, KeyCancelled, KeyReused

Payload = dict[str, object]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PRICES = {"/enrich": "0.002", "/classify": "0.010"}
"""What one request costs, in euros."""
EUROS = {"EUR": "1", "USD": "0.92", "GBP": "1.17", "PLN": "0.23", "RUB": "0.0102", "JPY": "0.0061", "CNY": "0.128",
         "CHF": "1.04", "INR": "0.011"}  # fmt: skip
"""Fixed rates: the same input must always buy the same answer."""
CATEGORIES = ("kitchen", "furniture", "outdoor", "garden", "electronics", "clothing")
LABELS = ("durable_goods", "apparel", "consumable", "luxury")
RETRY_AFTER_SECONDS = 1
CANCEL = "cancel:"
"""Marks the attempts of cancellations, which are counted apart from those of purchases."""
CONTROL = "/_"
"""Paths under this prefix answer whatever the faults, without a token: they are for tests, on loopback."""


class PaidApi:
    """Serves /enrich, /classify, /cancel and /charges/{key} over one ledger."""

    def __init__(self, ledger: InvoiceLedger, *, token: str, seed: int = 0, faults: PaidFaults | None = None) -> None:
        self._ledger = ledger
        self._token = token
        self._seed = seed
        self._faults = faults or PaidFaults()
        self._changed = asyncio.Event()
        self._attempts: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._drawn: Counter[str] = Counter()
        self._replayed = 0
        self._late: dict[str, asyncio.Task[None]] = {}
        self._late_charges = 0

    def application(self) -> web.Application:
        """The routes, for any aiohttp runner."""
        app = web.Application(middlewares=[self._guarded])
        app.router.add_post("/enrich", self._enrich)
        app.router.add_post("/classify", self._classify)
        app.router.add_post("/cancel", self._cancel)
        app.router.add_delete("/charges/{key:.+}", self._delete)
        app.router.add_get("/_invoices", self._invoices)
        app.router.add_get("/_faults", self._show_faults)
        app.router.add_post("/_faults", self._change_faults)
        app.router.add_get("/_stats", self._stats)
        app.on_cleanup.append(self._forget_late)
        return app

    async def _forget_late(self, _app: web.Application) -> None:
        # An API that is stopped charges nobody any more; what it had not booked was never done.
        for task in self._late.values():
            task.cancel()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Origin" in request.headers:
            # Only browsers send it: whatever page is open there must not change how this API fails.
            return refusal(403, "no_web_pages", "ask from a program: web pages have no access here")
        if request.path.startswith(CONTROL):
            return await handler(request)
        match self._faults.mode:
            case Mode.DOWN:
                return self._broken(request)
            case Mode.HANG:
                await self._hang()
                return self._broken(request)
            case Mode.NORMAL:
                pass
        sent = request.headers.get("Authorization", "")
        if not compare_digest(sent.encode(), f"Bearer {self._token}".encode()):
            response: web.StreamResponse = refusal(401, "unauthorized", "send the header Authorization: Bearer <token>")
        else:
            response = await handler(request)
        self._answers[str(response.status)] += 1
        return response

    async def _enrich(self, request: web.Request) -> web.StreamResponse:
        return await self._sell(request, enriched)

    async def _classify(self, request: web.Request) -> web.StreamResponse:
        return await self._sell(request, classified)

    async def _sell(self, request: web.Request, work: Callable[[Payload], Payload]) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return refusal(400, "idempotency_key_missing", "send the header Idempotency-Key, the same for every retry")
        payload = await json_object(request)
        if payload is None:
            return refusal(400, "invalid_json", "the body must be a JSON object: the record of one product")
        digest = hashlib.sha256(json.dumps(payload, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

        product = str(payload.get("url") or payload.get("sku") or digest)

        def effect() -> web.Response:
            try:
                standing = self._ledger.paid(key, request.path, digest)
                if standing is not None:
                    self._replayed += 1
                elif self._faults.refuses(self._seed, product):
                    return refusal(422, "unprocessable_product", "this product can't be processed: don't retry")
                else:
                    invoice = Invoice(key, request.path, PRICES[request.path], digest, work(payload), utc_now())
                    standing = self._ledger.charge(invoice)
            except KeyCancelled:
                return refusal(409, "key_cancelled", "this key was cancelled: use a new key for a new request")
            except KeyReused:
                return refusal(
                    422, "idempotency_key_reused", "this key paid for another request: use one key a request"
                )
            return web.json_response(standing.answer)

        if self._is_late(key, request.path, product):
            invoice = Invoice(key, request.path, PRICES[request.path], digest, work(payload), utc_now())
            self._attempts[f"{request.path}:{key}"] += 1
            # Not the request's own task: the charge comes whether the client waits for it or not.
            if key not in self._late:
                self._late[key] = asyncio.create_task(self._charge_late(invoice))
            await asyncio.shield(self._late[key])
            return effect()
        return await self._faulty(request, f"{request.path}:{key}", effect)

    def _is_late(self, key: str, path: str, product: str) -> bool:
        if self._ledger.knows(key) or self._faults.refuses(self._seed, product):
            return False
        return key in self._late or self._faults.charges_late(self._seed, path, product)

    async def _charge_late(self, invoice: Invoice) -> None:
        await asyncio.sleep(self._faults.late_charge_seconds)
        self._ledger.charge(invoice)
        self._late_charges += 1
        del self._late[invoice.key]

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        payload = await json_object(request) or {}
        return await self._refund(request, str(payload.get("key") or request.headers.get("Idempotency-Key", "")))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        return await self._refund(request, request.match_info["key"])

    async def _refund(self, request: web.Request, key: str) -> web.StreamResponse:
        if not key:
            return refusal(400, "key_missing", 'name the key to cancel: {"key": "..."} or the header Idempotency-Key')

        def effect() -> web.Response:
            if key in self._late:
                return refusal(404, "nothing_to_cancel", "nothing was charged under this key")
            return web.json_response({"status": self._ledger.cancel(key, utc_now()), "key": key})

        return await self._faulty(request, CANCEL + key, effect)

    async def _faulty(
        self, request: web.Request, subject: str, effect: Callable[[], web.Response]
    ) -> web.StreamResponse:
        """Carry out the effect, or not, and answer, or not, as drawn for this attempt."""
        self._attempts[subject] += 1
        spared = subject.startswith(CANCEL) and not self._faults.cancels_fail
        fault = None if spared else self._faults.drawn(self._seed, subject, self._attempts[subject])
        if fault is not None:
            self._drawn[fault] += 1
        match fault:
            case PaidFault.RATE_LIMITED:
                return refusal(429, "rate_limited", "slow down", {"Retry-After": str(RETRY_AFTER_SECONDS)})
            case PaidFault.UNAVAILABLE:
                return refusal(503, "unavailable", "try again")
            case PaidFault.HANG_BEFORE:
                await self._hang()
                return self._broken(request)
            case PaidFault.LATE:
                await self._hang()
            case _:
                pass
        answer = effect()
        match fault:
            case PaidFault.ERROR_AFTER:
                return refusal(500, "internal_error", "something went wrong")
            case PaidFault.HANG_AFTER:
                await self._hang()
                return self._broken(request)
            case PaidFault.RESET_AFTER:
                return self._broken(request)
            case PaidFault.MALFORMED_AFTER:
                text = answer.text or ""
                return web.Response(text=text[: len(text) // 2], content_type="application/json")
            case _:
                return answer

    async def _hang(self) -> None:
        """Wait for `hang_seconds`, or until somebody changes the faults."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._faults.hang_seconds):
                await self._changed.wait()

    def _broken(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # never reaches anybody: aiohttp wants a response

    async def _invoices(self, _request: web.Request) -> web.Response:
        return web.json_response(
            [
                {
                    "key": invoice.key,
                    "endpoint": invoice.endpoint,
                    "amount": invoice.amount,
                    "status": invoice.status,
                    "charged_times": invoice.charged_times,
                    "payload_sha256": invoice.payload_sha256,
                    "at": invoice.at,
                }
                for invoice in self._ledger.invoices
            ]
        )

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(msgspec.to_builtins(self._faults))

    async def _change_faults(self, request: web.Request) -> web.Response:
        changes = await json_object(request)
        if changes is None:
            return refusal(400, "invalid_json", "the body must be a JSON object of the fields that GET /_faults shows")
        try:
            self._faults = self._faults.changed(changes)
        except msgspec.ValidationError as wrong:
            return refusal(400, "invalid_faults", str(wrong))
        # Whoever hangs was caught by the old faults: let go of them, and catch later ones anew.
        self._changed.set()
        self._changed = asyncio.Event()
        return await self._show_faults(request)

    async def _stats(self, _request: web.Request) -> web.Response:
        invoices = self._ledger.invoices
        cancelled = sum(invoice.status is InvoiceStatus.CANCELLED for invoice in invoices)
        kept = sum((Decimal(i.amount) for i in invoices if i.status is InvoiceStatus.CHARGED), Decimal(0))
        return web.json_response(
            {
                "requests": self._attempts.total(),
                "answers": self._answers,
                "faults": self._drawn,
                "replayed": self._replayed,
                "charged_late": self._late_charges,
                "to_charge": len(self._late),
                "charged": len(invoices),
                "cancelled": cancelled,
                "blocked": len(self._ledger.blocked),
                "earned": str(kept),
            }
        )


def refusal(status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    """An answer that names the error for programs and says to people what to do."""
    return web.json_response({"error": error, "detail": detail}, status=status, headers=headers)


async def json_object(request: web.Request) -> Payload | None:
    """The body if it is a JSON object, else None."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def utc_now() -> str:
    """Now, ISO 8601 with the offset."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def enriched(payload: Payload) -> Payload:
    """Category, normalised brand and the price in euros (None if the record has no price in a known currency)."""
    title = str(payload.get("title", ""))
    return {
        "category": CATEGORIES[int(share(f"category:{title}") * len(CATEGORIES))],
        "brand_normalised": normalised(str(payload.get("brand") or "")),
        "price_eur": price_in_euros(payload),
    }


def classified(payload: Payload) -> Payload:
    """A label with its confidence, as a language model would give."""
    text = str(payload.get("text") or payload.get("title") or "")
    return {
        "label": LABELS[int(share(f"label:{text}") * len(LABELS))],
        "confidence": round(0.5 + share(f"confidence:{text}") / 2, 3),
        "model": "sample-classifier-1",
        "usage": {"input_tokens": len(text.encode()) // 4 + 20, "output_tokens": 5},
    }


def normalised(brand: str) -> str:
    """A brand without its legal form, in one spelling."""
    words = unicodedata.normalize("NFKC", brand).casefold().split()
    return " ".join(word for word in words if word not in ("gmbh", "ltd", "inc", "co.", "&", "ag"))


def price_in_euros(payload: Payload) -> str | None:
    """The record's `price` and `currency`, or its `price: {amount, currency}`, in euros with two decimals."""
    price, currency = payload.get("price"), payload.get("currency")
    if isinstance(price, dict):
        money: Payload = price
        price, currency = money.get("amount"), money.get("currency")
    rate = EUROS.get(str(currency))
    if rate is None or price is None:
        return None
    try:
        return f"{Decimal(str(price)) * Decimal(rate):.2f}"
    except InvalidOperation:
        return None
