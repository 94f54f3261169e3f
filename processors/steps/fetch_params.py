"""The parameters of `fetch`: what is sent to whom, what counts as a page, and what a host is spared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from processors.durations import parse_duration, parse_size
from processors.errors import PipelineError
from processors.http.guard import AddressPolicy, BadAllowList
from processors.http.request import check_header
from processors.http.secrets import Auth
from processors.step import StepParams


class FetchParams(StepParams, frozen=True):
    """Parameters of `fetch`.

    `max_bytes` limits the page after decompression. `accept` lists content types, with `*` for any part; an answer
    without a type counts as text/html. `host_concurrency` and `host_delay` hold for each host and worker process.
    Private and other special addresses are refused, after redirects too: `allow_private` admits RFC 1918 networks,
    `allow_addresses` networks, addresses and host names; both add to the worker's SCRAPESAGA_ALLOW_ADDRESSES.
    `auth` names secrets, which go to its `origins` alone. Of `headers`, those that look like keys follow no redirect to
    another origin. A page that sends its reader on (<meta http-equiv="refresh">) is followed like a redirect.
    """

    headers: dict[str, str] = msgspec.field(default_factory=dict)
    auth: Auth | None = None
    user_agent: str = "scrapesaga"
    accept: tuple[str, ...] = (
        "text/html",
        "application/xhtml+xml",
        "application/xml",
        "application/*+xml",
        "application/json",
        "application/*+json",
        "text/*",
    )
    max_redirects: int = 10
    max_bytes: int | str = "8MiB"
    connect_timeout: str = "10s"
    read_timeout: str = "20s"
    host_concurrency: int = 8
    host_delay: str = "0s"
    allow_private: bool = False
    allow_addresses: tuple[str, ...] = ()
    http2: bool = True


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The parameters that are written as texts, read."""

    max_bytes: int
    connect_timeout: timedelta
    read_timeout: timedelta
    host_delay: timedelta


def read_limits(params: FetchParams) -> FetchLimits:
    """Check the parameters, and return those that need reading. Raises PipelineError that names the parameter."""
    try:
        limits = FetchLimits(
            max_bytes=parse_size(params.max_bytes),
            connect_timeout=parse_duration(params.connect_timeout),
            read_timeout=parse_duration(params.read_timeout),
            host_delay=parse_duration(params.host_delay),
        )
        AddressPolicy.allowing(params.allow_addresses)
    except BadAllowList as error:
        raise PipelineError(f"allow_addresses: {error}") from error
    except ValueError as error:
        raise PipelineError(str(error)) from error
    for name, value in {**params.headers, "User-Agent": params.user_agent, "Accept": ", ".join(params.accept)}.items():
        check_header("headers", name, value)
    if params.auth is not None:
        params.auth.check()
    for name, least in (("max_redirects", 0), ("host_concurrency", 1)):
        if getattr(params, name) < least:
            raise PipelineError(f"{name}: {getattr(params, name)} is below {least}")
    if not params.accept or not limits.max_bytes:
        raise PipelineError("accept and max_bytes: must not be empty or 0")
    return limits
