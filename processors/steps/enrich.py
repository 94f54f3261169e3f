"""The step `enrich`: a paid HTTP call that is never paid twice, and cancelled when the saga is compensated."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import httpx
import msgspec

from processors.errors import RetryLater, StepError, StepFailed
from processors.http.body import BodyGarbled, BodyTooLarge, UnknownCoding, read_body
from processors.http.classify import (
    NOTHING_SENT,
    describe_failure,
    describe_status,
    is_transient,
)
from processors.http.client import open_client
from processors.http.guard import policy_of
from processors.http.request import header_value
from processors.http.retry_after import retry_after
from processors.http.secrets import Credentials
from processors.http.url import Url
from processors.spend.ledger import Bought, Order, Send, SpendLedger
from processors.step import EffectKind, Host, Json, Step, StepCall, StepOutput, StepParams
from processors.steps.enrich_params import (
    EnrichParams,
    read_limits,
    record_fields,
    request_body,
)

_log = logging.getLogger(__name__)

#: The attempt ends itself a little before the engine would cut it off, so as to say what is known of the effect.
SHARE_OF_TIMEOUT = 0.95
#: How much of a refusal's body goes into the error: enough to read "missing field price".
EXCERPT_BYTES = 300
#: A larger answer is looked through for secrets in a thread.
_INLINE_BYTES = 64 * 1024
_NOTHING_TO_CANCEL = (404, 410)


class Enrich(Step):
    """Send the record to a paid API once, and merge the answer into the record.

    Before anything is sent the spend ledger is asked: see processors/spend/ledger.py. The API must honour the idempotency
    header: an attempt whose outcome is unknown is repeated under the same key. Private addresses
    are refused unless they are allowed, as in `fetch`; redirects are not followed, they would carry the credentials
    elsewhere.
    """

    Params: ClassVar[type[StepParams]] = EnrichParams
    params: EnrichParams
    effect = EffectKind.PAID
    #: Makes the client; tests answer in the network's place.
    open_client: Callable[..., httpx.AsyncClient] = staticmethod(open_client)

    def __init__(self, name: str, params: EnrichParams, host: Host) -> None:
        super().__init__(name, params, host)
        self._limits = read_limits(params)
        self._client: httpx.AsyncClient | None = None
        self._ledger = SpendLedger(host.log("spend"))

    @classmethod
    def check(cls, params: EnrichParams) -> None:
        """Refuse parameters that can't work."""
        read_limits(params)

    async def open(self) -> None:
        """Connect, read the ledger, and make sure that the secrets are there."""
        self._credentials()
        if self.params.auth is not None:
            self.params.auth.warn_of_weak(self.name, self.host.secret)
        await self._ledger.open()
        policy = policy_of(
            self.host.setting("ALLOW_ADDRESSES"), self.params.allow_addresses, private=self.params.allow_private
        )
        self._client = self.open_client(policy)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def run(self, call: StepCall) -> StepOutput:
        """Buy the answer, or use the one that was bought."""
        until = _end_of(call)
        body = request_body(self.params, call.record)
        order = self._order(call, body)
        admitted = await self._ledger.admit(order, reuse=self.params.reuse)
        if isinstance(admitted, Bought):
            self._count("reused")
            note = "paid before" if admitted.key == call.key else f"reused the result paid by {admitted.key}"
            return self._output(call, admitted.response, admitted.key, note)
        response = await self._buy(call, order, admitted, body, until)
        return self._output(call, response, admitted.key, "")

    async def compensate(self, call: StepCall) -> None:
        """Have the API take the call back, or keep its result as unused; fine if nothing was ever paid."""
        order = self._order(call, request_body(self.params, call.record))
        until = _end_of(call)
        cancel = None if self.params.cancel is None else lambda key: self._cancel(until, key)
        undone = await self._ledger.compensate(order, cancel)
        _log.info("paid call undone: %s", undone, extra={"job_id": call.job_id, "step": call.step, "seq": call.seq})

    async def _buy(self, call: StepCall, order: Order, send: Send, body: bytes, until: float) -> bytes:
        try:
            response = await self._send(until, send.key, body)
        except StepError as error:
            if error.effect_unknown:
                self._count("unknown")
                raise
            self._count("refused" if isinstance(error, StepFailed) else "later")
            await self._ledger.give_back(order, send)
            # This attempt had no effect; one before it, under the same key, may have had.
            error.effect_unknown = send.again and send.key == call.key
            raise
        await self._ledger.paid(order, send.key, response)
        self._count("paid")
        self.host.count("spend", float(order.cost), pipeline=call.pipeline, step=self.name)
        return response

    async def _send(self, until: float, key: str, body: bytes) -> bytes:
        """Return the API's answer, checked to be JSON. Raises StepError that says whether there may be an effect."""
        credentials = self._credentials()
        headers = httpx.Headers({"Accept": "application/json", "Content-Type": "application/json"})
        headers.update(self.params.headers)
        headers[self.params.idempotency_header] = header_value(key)
        answer, content = await self._exchange(until, self.params.method, self.params.url, headers, body, credentials)
        if not answer.is_success:
            raise _refusal(answer, content)
        try:
            msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RetryLater(f"the answer is not JSON: {error}", effect_unknown=True) from error
        return content

    async def _cancel(self, until: float, key: str) -> None:
        cancel = self.params.cancel
        if cancel is None:
            return
        credentials = self._credentials()
        url, body = cancel.request(header_value(key))
        headers = httpx.Headers({"Accept": "application/json"})
        if body is not None:
            headers["Content-Type"] = "application/json"
        headers.update(self.params.headers)
        answer, content = await self._exchange(until, cancel.method, url, headers, body, credentials)
        if answer.is_success or answer.status_code in _NOTHING_TO_CANCEL:
            self._count("cancelled")
            return
        raise _refusal(answer, content)

    async def _exchange(
        self,
        until: float,
        method: str,
        url: str,
        headers: httpx.Headers,
        body: bytes | None,
        credentials: Credentials,
    ) -> tuple[httpx.Response, bytes]:
        """Send a request; return the answer and its body without secrets. Raises StepError for a lack of one."""
        if self._client is None:
            raise RuntimeError(f"step {self.name} was not opened")
        at = Url.of(url)
        headers.update(credentials.headers_for(at.origin))
        seconds = max(until - asyncio.get_running_loop().time(), 0.0)
        connect = min(self._limits.connect_timeout.total_seconds(), seconds)
        timeout = httpx.Timeout(seconds, connect=connect, pool=connect)
        target = {"target": at.target.encode("ascii")}
        request = self._client.build_request(
            method, at.for_httpx, headers=headers, content=body, timeout=timeout, extensions=target
        )
        host = at.host
        try:
            async with asyncio.timeout_at(until):
                answer = await self._client.send(request, stream=True)
                try:
                    content = await self._content(answer)
                finally:
                    await answer.aclose()
        except NOTHING_SENT as error:
            raise RetryLater(f"{host}: {describe_failure(error)}") from error
        except BodyTooLarge as error:
            raise StepFailed(f"{host}: {error}: raise max_bytes", effect_unknown=True) from error
        except (httpx.HTTPError, BodyGarbled, UnknownCoding) as error:
            # An answer that is no HTTP is quoted in the error, and may repeat what was sent.
            said = credentials.redact_text(describe_failure(error))
            raise RetryLater(f"{host}: {said}", effect_unknown=True) from error
        except TimeoutError as error:
            raise RetryLater(f"{host}: no answer within {seconds:.3g} s", effect_unknown=True) from error
        if len(content) > _INLINE_BYTES:
            return answer, await asyncio.to_thread(credentials.redact, content)
        return answer, credentials.redact(content)

    async def _content(self, answer: httpx.Response) -> bytes:
        try:
            return await read_body(answer, self._limits.max_bytes)
        except (BodyTooLarge, BodyGarbled, UnknownCoding):
            if answer.is_success:
                raise
            # An error page of megabytes: the status says enough.
            return b""

    def _output(self, call: StepCall, response: bytes, key: str, note: str) -> StepOutput:
        answer: Json = msgspec.json.decode(response)
        try:
            fields = record_fields(self.params, answer)
        except ValueError as error:
            # It is paid all the same.
            raise StepFailed(f"step {call.step}: {error}", effect_unknown=True) from error
        # Under another's key it is that key's cost.
        cost = self.params.cost if key == call.key else 0
        return StepOutput(data={"key": key, "cost": str(cost)}, record=fields, note=note)

    def _order(self, call: StepCall, body: bytes) -> Order:
        asked = f"{call.pipeline}\n{call.step}\n{self.params.method}\n{self.params.url}\n".encode() + body
        return Order(
            key=call.key,
            seq=call.seq,
            pipeline=call.pipeline,
            step=call.step,
            content_hash=hashlib.sha256(asked).hexdigest(),
            cost=self.params.cost,
            cap=self.params.cap,
        )

    def _credentials(self) -> Credentials:
        auth = self.params.auth
        return Credentials.none() if auth is None else auth.headers(self.host.secret, (self.params.url,))

    def _count(self, outcome: str) -> None:
        self.host.count("paid_calls", 1, step=self.name, outcome=outcome)


def _end_of(call: StepCall) -> float:
    return asyncio.get_running_loop().time() + call.timeout.total_seconds() * SHARE_OF_TIMEOUT


def _refusal(answer: httpx.Response, content: bytes) -> StepError:
    text = content[:EXCERPT_BYTES].decode("utf-8", "replace")
    reason = f"{answer.request.url.raw_host.decode()} answered {describe_status(answer.status_code)}: {text}"
    if not is_transient(answer.status_code):
        return StepFailed(reason)
    after: timedelta | None = retry_after(answer.headers, datetime.now(UTC))
    return RetryLater(reason, after=after, effect_unknown=answer.status_code != 429)
