"""The step `fetch`: GET a page and archive it; the compensation deletes what was archived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import ClassVar

import httpx
import msgspec
import zstandard

from processors.durations import parse_duration, parse_size
from processors.errors import (
    PipelineError,
    RetryLater,
    StepError,
    StepFailed,
)
from processors.http.body import (
    ACCEPT_ENCODING,
    BodyGarbled,
    BodyTooLarge,
    UnknownCoding,
    read_body,
)
from processors.http.classify import describe_failure, describe_status, is_transient
from processors.http.client import open_client
from processors.http.guard import AddressPolicy, BadAllowList, policy_of
from processors.http.hosts import Hosts
from processors.http.request import check_header, url_objection
from processors.http.retry_after import retry_after
from processors.http.secrets import Auth, Credentials
from processors.redaction import sanitised_url
from processors.step import Host, Step, StepCall, StepOutput, StepParams

PAGES = "pages"
#: The attempt ends itself a little before the engine would cut it off, so as to say why.
SHARE_OF_TIMEOUT = 0.95
#: A larger page is compressed in a thread: 256 KiB take 1 to 2 ms, during which nothing else runs.
COMPRESS_INLINE_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Statuses whose body is the page: OK, Non-Authoritative Information. 206 would be a part, 204 and 205 have none.
_PAGE = frozenset({200, 203})
#: Sent to the first origin only: a redirect must not carry a session or a key to another site.
_FOR_ONE_ORIGIN = ("authorization", "cookie", "proxy-authorization")


class FetchParams(StepParams, frozen=True):
    """Parameters of `fetch`.

    `max_bytes` limits the page after decompression. `accept` lists content types, with `*` for any part; an answer
    without a type counts as text/html. `host_concurrency` and `host_delay` hold for each host and worker process.
    Private and other special addresses are refused, after redirects too: `allow_private` admits RFC 1918 networks,
    `allow_addresses` networks, addresses and host names; both add to the worker's SCRAPESAGA_ALLOW_ADDRESSES.
    `auth` names secrets, which are sent to the page's own origin only.
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
class _Limits:
    max_bytes: int
    connect_timeout: timedelta
    read_timeout: timedelta
    host_delay: timedelta


@dataclass(frozen=True, slots=True)
class _Page:
    response: httpx.Response
    body: bytes
    redirects: tuple[str, ...]


class Fetch(Step):
    """GET the job's URL and archive the page in the topic `pages`; a GET changes nothing outside."""

    Params: ClassVar[type[StepParams]] = FetchParams
    params: FetchParams

    def __init__(self, name: str, params: FetchParams, host: Host) -> None:
        super().__init__(name, params, host)
        self._limits = _read(params)
        self._hosts = Hosts(params.host_concurrency, self._limits.host_delay)
        self._client: httpx.AsyncClient | None = None

    @classmethod
    def check(cls, params: FetchParams) -> None:
        """Refuse parameters that can't work."""
        _read(params)

    async def open(self) -> None:
        """Open the client; refuse an unreadable allow-list and missing secrets before the first page."""
        self._credentials()
        policy = policy_of(
            self.host.setting("ALLOW_ADDRESSES"), self.params.allow_addresses, private=self.params.allow_private
        )
        self._client = open_client(policy, http2=self.params.http2)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def run(self, call: StepCall) -> StepOutput:
        """Fetch and archive the page; again with the same key replaces what was archived."""
        seconds = call.timeout.total_seconds() * SHARE_OF_TIMEOUT
        until = asyncio.get_running_loop().time() + seconds
        credentials = self._credentials()
        try:
            async with asyncio.timeout_at(until):
                page = await self._fetch(_parsed(call.url), until, credentials)
        except TimeoutError as error:
            raise RetryLater(f"{sanitised_url(call.url)}: not read within {seconds:.3g} s") from error
        except StepError as error:
            # A site may redirect to a URL that has what it was sent in its path.
            error.reason = credentials.redact_text(error.reason)
            raise
        return await self._archive(call, page, credentials.redact_text)

    async def compensate(self, call: StepCall) -> None:
        """Delete the archived page, if there is one."""
        await self.host.publish(PAGES, call.key.encode(), None)

    async def _fetch(self, url: httpx.URL, until: float, credentials: Credentials) -> _Page:
        origin = url
        cookies = httpx.Cookies()
        passed: list[str] = []
        # With the cookies: a site that sets one and redirects to the same page is no loop.
        seen: set[tuple[str, str]] = set()
        while True:
            request = self._request(url, cookies, credentials, same_origin=_same_origin(origin, url))
            state = (str(url), request.headers.get("cookie", ""))
            if state in seen:
                raise StepFailed(f"{sanitised_url(origin)}: redirects in a loop, by way of {sanitised_url(url)}")
            seen.add(state)
            answer = await self._visit(request, until)
            if isinstance(answer, tuple):
                response, body = answer
                return _Page(response, credentials.redact(body), tuple(passed))
            passed.append(str(url))
            if len(passed) > self.params.max_redirects:
                raise StepFailed(
                    f"{sanitised_url(origin)}: more than {self.params.max_redirects} redirects; raise max_redirects"
                )
            cookies.extract_cookies(answer)
            url = _target(url, answer)

    async def _visit(self, request: httpx.Request, until: float) -> tuple[httpx.Response, bytes] | httpx.Response:
        """Return the page, or the redirect that came instead of it."""
        if self._client is None:
            raise RuntimeError(f"step {self.name} was not opened")
        budget = timedelta(seconds=max(until - asyncio.get_running_loop().time(), 0.0))
        async with self._hosts.turn(request.url.host, budget):
            try:
                response = await self._client.send(request, stream=True)
                try:
                    if response.status_code in _REDIRECTS:
                        return response
                    self._refuse(response)
                    return response, await read_body(response, self._limits.max_bytes)
                finally:
                    await response.aclose()
            except (BodyTooLarge, UnknownCoding) as error:
                raise StepFailed(f"{sanitised_url(request.url)}: {error}") from error
            except (httpx.HTTPError, BodyGarbled) as error:
                raise RetryLater(f"{sanitised_url(request.url)}: {describe_failure(error)}") from error

    def _request(
        self, url: httpx.URL, cookies: httpx.Cookies, credentials: Credentials, *, same_origin: bool
    ) -> httpx.Request:
        headers = httpx.Headers(
            {
                "User-Agent": self.params.user_agent,
                "Accept": ", ".join(self.params.accept),
                "Accept-Encoding": ACCEPT_ENCODING,
            }
        )
        headers.update(self.params.headers)
        headers.update(credentials.headers)
        if not same_origin:
            for name in (*_FOR_ONE_ORIGIN, *credentials.headers):
                headers.pop(name, None)
        if self._client is None:
            raise RuntimeError(f"step {self.name} was not opened")
        timeout = httpx.Timeout(
            self._limits.read_timeout.total_seconds(), connect=self._limits.connect_timeout.total_seconds()
        )
        request = self._client.build_request("GET", url, headers=headers, timeout=timeout)
        cookies.set_cookie_header(request)
        return request

    def _refuse(self, response: httpx.Response) -> None:
        """Raise what an answer that is no page means; return for a page."""
        status = response.status_code
        reason = f"{sanitised_url(response.request.url)} answered {describe_status(status)}"
        # Accepted: what bot walls and slow renderers say while there is no page yet.
        if is_transient(status) or status == 202:
            raise RetryLater(reason, after=retry_after(response.headers, datetime.now(UTC)))
        if status not in _PAGE:
            raise StepFailed(reason)
        content_type = _media_type(response.headers)
        if not any(fnmatchcase(content_type, pattern.lower()) for pattern in self.params.accept):
            raise StepFailed(
                f"{sanitised_url(response.request.url)} is {content_type}; accepted: {', '.join(self.params.accept)}"
            )

    async def _archive(self, call: StepCall, page: _Page, redacted: Callable[[str], str]) -> StepOutput:
        response, body = page.response, page.body
        fetched_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        final_url = redacted(str(response.request.url.copy_with(fragment=None)))
        content_type = redacted(response.headers.get("content-type", ""))
        headers = {
            "content-type": content_type.encode("latin-1", "replace"),
            "content-encoding": redacted(response.headers.get("content-encoding", "")).encode("latin-1", "replace"),
            "url": call.url.encode(),
            "final-url": final_url.encode(),
            "status": str(response.status_code).encode(),
            "fetched-at": fetched_at.encode(),
            "job-id": call.job_id.encode(),
        }
        if len(body) > COMPRESS_INLINE_BYTES:
            packed = await asyncio.to_thread(_compress, body)
        else:
            packed = _compress(body)
        address = await self.host.publish(PAGES, call.key.encode(), packed, headers=headers)
        self.host.count("page_bytes", len(body), step=self.name)
        hops = f", {len(page.redirects)} redirects" if page.redirects else ""
        return StepOutput(
            data={
                "page": address.to_json(),
                "page_key": call.key,
                "url": final_url,
                "final_url": final_url,
                "status": response.status_code,
                "content_type": content_type,
                "redirects": [redacted(url) for url in page.redirects],
                "size_bytes": len(body),
                "etag": redacted(response.headers.get("etag", "")),
                "last_modified": redacted(response.headers.get("last-modified", "")),
                "fetched_at": fetched_at,
            },
            note=f"{response.http_version} {response.status_code}, {len(body)} bytes{hops}",
        )

    def _credentials(self) -> Credentials:
        return Credentials({}, ()) if self.params.auth is None else self.params.auth.headers(self.host.secret)


def _read(params: FetchParams) -> _Limits:
    try:
        limits = _Limits(
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
        raise PipelineError("accept and max_bytes: with none, no page could ever be fetched")
    return limits


def _parsed(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise StepFailed(f"{sanitised_url(text)!r} is no URL: {error}") from error
    objection = url_objection(url)
    if objection is not None:
        raise StepFailed(f"{sanitised_url(url)}: the URL {objection}")
    return url


def _target(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    location = response.headers.get("location", "")
    if not location:
        raise StepFailed(
            f"{sanitised_url(url)} answered {describe_status(response.status_code)} without saying where to"
        )
    try:
        return _parsed(str(url.join(location)))
    except httpx.InvalidURL as error:
        raise StepFailed(
            f"{sanitised_url(url)} redirects to {sanitised_url(location)!r}, which is no URL: {error}"
        ) from error


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower() or "text/html"


def _compress(body: bytes) -> bytes:
    # A compressor of its own for each call: they can't be shared between threads. Level 3: 115 KB become 25 KB.
    return zstandard.ZstdCompressor(level=3).compress(body)
