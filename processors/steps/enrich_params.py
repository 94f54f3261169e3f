"""The parameters of `enrich`: which paid call to make, what it costs, and how it is taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from processors.durations import parse_duration, parse_size
from processors.errors import PipelineError
from processors.http.guard import AddressPolicy, BadAllowList
from processors.http.request import check_header, check_url
from processors.http.secrets import Auth
from processors.step import Json, StepParams

#: Stands for the idempotency key in the cancel endpoint's URL and body.
KEY = "{key}"
#: The answer is kept in the ledger, whose topic takes 1 MiB a record.
_MOST_RESPONSE_BYTES = 900_000


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API's endpoint that takes a call back; `{key}` in `url` or `body` is the call's idempotency key."""

    url: str
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    body: dict[str, Any] | None = None

    def request(self, key: str) -> tuple[str, bytes | None]:
        """Return the URL and the body that cancel the call with this key."""
        body = None if self.body is None else msgspec.json.encode(_filled(self.body, key))
        return self.url.replace(KEY, quote(key, safe="")), body


class EnrichParams(StepParams, frozen=True):
    """Parameters of `enrich`.

    `body` lists the record's fields to send, or maps keys of the request's JSON to fields; by default the whole record
    is sent. `response` maps the record's fields to dotted paths in the JSON answer; by default the answer's top-level
    keys become fields. `cost` is the price of a call and `cap` the most that the pipeline may spend, all its steps
    together. With `cancel`, a compensation has the API take the call back; without, the paid result is kept and used by
    a later call with the same content, unless that says `reuse: false`. Secrets are named, never written: see `auth`.
    An API with a private address has to be allowed, by `allow_private` (RFC 1918) or `allow_addresses` (networks,
    addresses and host names), or for all steps by the worker's SCRAPESAGA_ALLOW_ADDRESSES.
    """

    url: str
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    auth: Auth | None = None
    body: list[str] | dict[str, str] | None = None
    response: dict[str, str] | None = None
    idempotency_header: str = "Idempotency-Key"
    cost: Decimal = Decimal(0)
    cap: Decimal | None = None
    cancel: Cancel | None = None
    reuse: bool = True
    connect_timeout: str = "10s"
    max_bytes: int | str = "256KiB"
    allow_private: bool = False
    allow_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The parameters that are written as texts, read."""

    connect_timeout: timedelta
    max_bytes: int


def read_limits(params: EnrichParams) -> CallLimits:
    """Check the parameters, and return those that need reading. Raises PipelineError that names the parameter."""
    check_url("url", params.url)
    for name, value in params.headers.items():
        check_header("headers", name, value)
    check_header("idempotency_header", params.idempotency_header, "")
    for name, amount in (("cost", params.cost), ("cap", params.cap)):
        if amount is not None and not (amount.is_finite() and amount >= 0):
            raise PipelineError(f"{name}: {amount} is not an amount of money")
    if params.cap is not None and params.cost > params.cap:
        raise PipelineError(f"cap: {params.cap} doesn't allow one call, which costs {params.cost}")
    if params.cap is not None and not params.cost:
        raise PipelineError("cap: has no effect without the cost of a call; give `cost`")
    if params.cancel is not None:
        check_url("cancel: url", params.cancel.url.replace(KEY, "key"))
        if KEY not in params.cancel.url and params.cancel.body == _filled(params.cancel.body, ""):
            raise PipelineError(
                f"cancel: neither url nor body contains the key of the call; put {KEY} into one of them"
            )
    if params.auth is not None:
        cancels = () if params.cancel is None else (params.cancel.url.replace(KEY, "key"),)
        params.auth.check((params.url, *cancels))
    try:
        limits = CallLimits(parse_duration(params.connect_timeout), parse_size(params.max_bytes))
        AddressPolicy.allowing(params.allow_addresses)
    except BadAllowList as error:
        raise PipelineError(f"allow_addresses: {error}") from error
    except ValueError as error:
        raise PipelineError(str(error)) from error
    if not 0 < limits.max_bytes <= _MOST_RESPONSE_BYTES:
        raise PipelineError(f"max_bytes: the ledger keeps answers of up to {_MOST_RESPONSE_BYTES} bytes")
    return limits


def request_body(params: EnrichParams, record: Mapping[str, Json]) -> bytes:
    """Return the JSON to send: the same record gives the same bytes; fields that the record lacks are left out."""
    if params.body is None:
        return msgspec.json.encode(record, order="deterministic")
    fields = params.body if isinstance(params.body, dict) else {name: name for name in params.body}
    sent = {key: record[name] for key, name in fields.items() if name in record}
    return msgspec.json.encode(sent, order="deterministic")


def record_fields(params: EnrichParams, answer: Json) -> dict[str, Json]:
    """Return the record's fields out of an answer; what the answer lacks is left out. Raises ValueError."""
    if params.response is None:
        if not isinstance(answer, dict):
            raise ValueError("the answer is not a JSON object: say in `response` where the fields are")
        return answer
    found = {name: _at(answer, path) for name, path in params.response.items()}
    return {name: value for name, value in found.items() if value is not msgspec.UNSET}


def _at(answer: Json, path: str) -> Json:
    for part in path.split("."):
        if isinstance(answer, dict) and part in answer:
            answer = answer[part]
        elif isinstance(answer, list) and part.isdigit() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            return msgspec.UNSET
    return answer


def _filled(value: Any, key: str) -> Any:
    match value:
        case str():
            return value.replace(KEY, key)
        case dict():
            return {name: _filled(item, key) for name, item in value.items()}
        case list():
            return [_filled(item, key) for item in value]
        case _:
            return value
