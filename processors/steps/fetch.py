"""The step `fetch`: GET a page and archive it; the compensation deletes the archived page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import ClassVar

import httpx
import zstandard

from processors.errors import (
    RetryLater,
    StepError,
    StepFailed,
)
from processors.extraction.charset import decode
from processors.extraction.meta_refresh import HEAD_CHARS, meta_refresh_target, refresh_target, renews
from processors.http.body import (
    ACCEPT_ENCODING,
    BodyGarbled,
    BodyTooLarge,
    UnknownCoding,
    read_body,
)
from processors.http.classify import describe_failure, describe_status, is_transient
from processors.http.client import open_client
from processors.http.cookies import FetchCookies
from processors.http.guard import policy_of
from processors.http.hosts import HostLimits, Hosts
from processors.http.redirects import REDIRECTS, header_text, looks_like_key, redirect_target
from processors.http.retry_after import retry_after
from processors.http.secrets import Credentials
from processors.http.url import BadUrl, Url, origin_text
from processors.redaction import sanitised_url
from processors.step import EffectKind, Host, Step, StepCall, StepOutput, StepParams
from processors.steps.fetch_params import FetchParams, read_limits

PAGES = "pages"
#: The attempt ends itself a little before the engine would cut it off, so as to say why.
SHARE_OF_TIMEOUT = 0.95
#: A larger page is compressed in a thread: 256 KiB take 1 to 2 ms, during which nothing else runs.
COMPRESS_INLINE_BYTES = 256 * 1024
#: No header that is kept has a reason to be longer; servers may send some 90 KB.
_LONGEST_HEADER = 1_000
#: Statuses whose body is the page: OK, Non-Authoritative Information. 206 would be a part, 204 and 205 have none.
_PAGE = frozenset({200, 203})
# With NULs between the letters where the page is UTF-16.
_MENTIONS_REFRESH = re.compile(rb"r\0?e\0?f\0?r\0?e\0?s\0?h", re.IGNORECASE)
_HTML = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True, slots=True)
class _Page:
    url: Url
    response: httpx.Response
    body: bytes
    redirects: tuple[str, ...] = ()


class Fetch(Step):
    """Fetch the URL of the job with GET, and archive the page in the topic `pages`."""

    Params: ClassVar[type[StepParams]] = FetchParams
    params: FetchParams
    effect = EffectKind.PAGE
    #: Makes the client; tests answer in the network's place.
    open_client: Callable[..., httpx.AsyncClient] = staticmethod(open_client)

    def __init__(self, name: str, params: FetchParams, host: Host) -> None:
        super().__init__(name, params, host)
        self._limits = read_limits(params)
        self._host_limits = HostLimits(params.host_concurrency, self._limits.host_delay)
        self._client: httpx.AsyncClient | None = None

    @classmethod
    def check(cls, params: FetchParams) -> None:
        """Refuse parameters that can't work."""
        read_limits(params)

    async def open(self) -> None:
        """Open the client; refuse an unreadable allow-list and missing secrets before the first page."""
        self._credentials()
        if self.params.auth is not None:
            self.params.auth.warn_of_weak(self.name, self.host.secret)
        policy = policy_of(
            self.host.setting("ALLOW_ADDRESSES"), self.params.allow_addresses, private=self.params.allow_private
        )
        self._client = self.open_client(policy, http2=self.params.http2)

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
                page = await self._fetch(_parsed(call.address or call.url), until, credentials)
        except TimeoutError as error:
            raise RetryLater(f"{sanitised_url(call.url)}: not read within {seconds:.3g} s") from error
        except StepError as error:
            # A site may redirect to a URL that has what it was sent in its path.
            error.reason = credentials.redact_text(error.reason)
            raise
        return await self._archive(call, page, credentials)

    async def compensate(self, call: StepCall) -> None:
        """Delete the archived page, if there is one."""
        await self.host.publish(PAGES, call.key.encode(), None)

    async def _fetch(self, url: Url, until: float, credentials: Credentials) -> _Page:
        first, cookies = url, FetchCookies()
        passed: list[str] = []
        # With the cookies: a site that sets one and redirects to the same page is no loop.
        seen: set[tuple[str, str]] = set()
        while True:
            headers = self._headers(url, first, cookies, credentials)
            state = (url.address, headers.get("cookie", ""))
            if state in seen:
                raise StepFailed(f"{sanitised_url(first)}: redirects in a loop, by way of {sanitised_url(url)}")
            seen.add(state)
            answer = await self._visit(url, headers, until, credentials)
            cookies.take(answer.response if isinstance(answer, _Page) else answer)
            if isinstance(answer, _Page):
                target = _refreshed(answer)
                # A page that only renews itself is the page.
                if target is None or (
                    target.address == url.address
                    and self._headers(url, first, cookies, credentials).get("cookie", "") == state[1]
                ):
                    return replace(answer, redirects=tuple(passed))
            else:
                target = redirect_target(url, answer)
            passed.append(url.href)
            if len(passed) > self.params.max_redirects:
                raise StepFailed(
                    f"{sanitised_url(first)}: more than {self.params.max_redirects} redirects; raise max_redirects"
                )
            url = target

    async def _visit(
        self, url: Url, headers: httpx.Headers, until: float, credentials: Credentials
    ) -> _Page | httpx.Response:
        """Return the page, or the redirect that came instead of it."""
        budget = timedelta(seconds=max(until - asyncio.get_running_loop().time(), 0.0))
        async with Hosts.of_this_process().turn(url.host, self._host_limits, budget):
            try:
                response = await self._send(url, headers)
                try:
                    if response.status_code in REDIRECTS:
                        return response
                    self._refuse(url, response, credentials)
                    return _Page(url, response, await read_body(response, self._limits.max_bytes))
                finally:
                    await response.aclose()
            except (BodyTooLarge, UnknownCoding) as error:
                raise StepFailed(f"{sanitised_url(url)}: {error}") from error
            except (httpx.HTTPError, BodyGarbled) as error:
                raise RetryLater(f"{sanitised_url(url)}: {describe_failure(error)}") from error

    async def _send(self, url: Url, headers: httpx.Headers) -> httpx.Response:
        if self._client is None:
            raise RuntimeError(f"step {self.name} was not opened")
        limits = self._limits
        timeout = httpx.Timeout(limits.read_timeout.total_seconds(), connect=limits.connect_timeout.total_seconds())
        # httpx spells a few characters of a target in its own way; what is asked for is what was submitted.
        target = {"target": url.target.encode("ascii")}
        request = self._client.build_request("GET", url.for_httpx, headers=headers, timeout=timeout, extensions=target)
        return await self._client.send(request, stream=True)

    def _headers(self, url: Url, first: Url, cookies: FetchCookies, credentials: Credentials) -> httpx.Headers:
        """Return the headers for one hop: what looks like a key goes to the first origin alone, `auth` to its own."""
        headers = httpx.Headers(
            {
                "User-Agent": self.params.user_agent,
                "Accept": ", ".join(self.params.accept),
                "Accept-Encoding": ACCEPT_ENCODING,
            },
            encoding="iso-8859-1",
        )
        configured = {
            name: value
            for name, value in self.params.headers.items()
            if url.origin == first.origin or not looks_like_key(name)
        }
        headers.update(configured)
        headers.update(credentials.headers_for(url.origin))
        cookie = cookies.header(url.for_httpx, headers.get("cookie", ""))
        if cookie:
            headers["Cookie"] = cookie
        return headers

    def _refuse(self, url: Url, response: httpx.Response, credentials: Credentials) -> None:
        """Raise what an answer that is no page means; return for a page."""
        status = response.status_code
        reason = f"{sanitised_url(url)} answered {describe_status(status)}"
        # Accepted: what bot walls and slow renderers say while there is no page yet.
        if is_transient(status) or status == 202:
            raise RetryLater(reason, after=retry_after(response.headers, datetime.now(UTC)))
        if status in (401, 403) and credentials and not credentials.headers_for(url.origin):
            raise StepFailed(f"{reason}; `auth` was not sent: {origin_text(url.origin)} is none of its origins")
        if status not in _PAGE:
            raise StepFailed(reason)
        content_type = _media_type(response.headers)
        if not any(fnmatchcase(content_type, pattern.lower()) for pattern in self.params.accept):
            shown = credentials.redact_text(response.headers.get("content-type") or content_type)[:100]
            raise StepFailed(f"{sanitised_url(url)} is {shown}; accepted: {', '.join(self.params.accept)}")

    async def _archive(self, call: StepCall, page: _Page, credentials: Credentials) -> StepOutput:
        response, redacted = page.response, credentials.redact_text

        def header(name: str) -> str:
            return redacted(response.headers.get(name, ""))[:_LONGEST_HEADER]

        fetched_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        final_url = redacted(page.url.address)
        content_type = header("content-type")
        headers = {
            "content-type": content_type.encode("latin-1", "replace"),
            "content-encoding": header("content-encoding").encode("latin-1", "replace"),
            "url": call.url.encode(),
            "final-url": final_url.encode(),
            "status": str(response.status_code).encode(),
            "fetched-at": fetched_at.encode(),
            "job-id": call.job_id.encode(),
        }
        if len(page.body) > COMPRESS_INLINE_BYTES:
            packed, size = await asyncio.to_thread(_pack, page.body, credentials)
        else:
            packed, size = _pack(page.body, credentials)
        address = await self.host.publish(PAGES, call.key.encode(), packed, headers=headers)
        self.host.count("page_bytes", size, step=self.name)
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
                "size_bytes": size,
                "etag": header("etag"),
                "last_modified": header("last-modified"),
                "fetched_at": fetched_at,
            },
            note=f"{response.http_version} {response.status_code}, {size} bytes{hops}",
        )

    def _credentials(self) -> Credentials:
        return Credentials.none() if self.params.auth is None else self.params.auth.headers(self.host.secret)


def _parsed(text: str) -> Url:
    try:
        return Url.of(text)
    except BadUrl as error:
        raise StepFailed(str(error)) from error


def _refreshed(page: _Page) -> Url | None:
    """Return where a page sends its reader by itself, by the header Refresh or by <meta>; None if it stays."""
    target = None
    if refresh := page.response.headers.get_list("refresh"):
        target = refresh_target(header_text(refresh[0]), page.url.href)
    head = page.body[:HEAD_CHARS]
    if target is None and _media_type(page.response.headers) in _HTML and _MENTIONS_REFRESH.search(head):
        text, _ = decode(head, page.response.headers.get("content-type"))
        target = meta_refresh_target(text, page.url.href)
    if target is None or (renews(target, page.url.href) and "set-cookie" not in page.response.headers):
        return None
    return _parsed(target)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower() or "text/html"


def _pack(body: bytes, credentials: Credentials) -> tuple[bytes, int]:
    """Return the page as it is archived, and the size that it has unpacked."""
    page = credentials.redact(body)
    # A compressor of its own for each call: they can't be shared between threads. Level 3: 115 KB become 25 KB.
    return zstandard.ZstdCompressor(level=3).compress(page), len(page)
