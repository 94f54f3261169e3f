"""The HTTP client of the steps: HTTP/2, connects to checked addresses only, remembers nothing between jobs."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx

from processors.errors import StepFailed
from processors.http.guard import AddressPolicy
from processors.observability.tracing import Call

#: Resolve a host and port to IP addresses, best first. Raises OSError.
Resolve = Callable[[str, int], Awaitable[list[str]]]

#: A slow resolver holds a thread for many seconds: asyncio's own pool has six on a small machine, shared with all else.
RESOLVER_THREADS = 16
#: How many addresses of one name are tried; a name with hundreds would use up the attempt.
MAX_ADDRESSES = 4

# At debug level hpack logs every header that is sent, Authorization among them, and httpcore every one that comes.
for _talkative in ("hpack", "httpcore"):
    logging.getLogger(_talkative).setLevel(logging.INFO)

_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def open_client(
    policy: AddressPolicy,
    *,
    http2: bool = True,
    max_connections: int = 256,
    resolve: Resolve | None = None,
    ssl_context: ssl.SSLContext | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """Return a client that never follows redirects by itself, keeps no cookies, and asks no proxy or netrc.

    A request to an address that the policy objects to raises StepFailed before anything is sent. A `transport` of one's
    own takes the network's place, and with it the policy's.
    """
    transport = transport or _GuardedTransport(
        policy,
        resolve,
        httpx.create_ssl_context() if ssl_context is None else ssl_context,
        http2,
        max_connections,
    )
    # Cookies in the client would carry one job's session into another's requests.
    no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False, cookies=no_cookies)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once and connects to an address that was checked: there is no second look-up to rebind."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first allowed address of `host` that answers. Raises StepFailed if none is allowed."""
        clock = asyncio.get_running_loop().time
        end = None if timeout is None else clock() + timeout
        addresses = await self._allowed(host, port, timeout)
        failure: Exception | None = None
        for tried, address in enumerate(addresses):
            # An equal share for each address that is left: a first one that doesn't answer leaves time for the second.
            share = None if end is None else max(end - clock(), 0.001) / (len(addresses) - tried)
            try:
                return await self._sockets.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def _allowed(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"resolving {host} took too long") from error
        except UnicodeError as error:
            raise StepFailed(f"{host!r} is not a host name: {error}") from error
        except OSError as error:
            raise httpcore.ConnectError(f"{host} does not resolve: {error}") from error
        objections = {address: self._policy.objection(host, address) for address in addresses}
        allowed = [address for address, objection in objections.items() if objection is None]
        if objections and not allowed:
            address, objection = next(iter(objections.items()))
            where = host if host == address else f"{host} ({address})"
            raise StepFailed(
                f"{where} is {objection}: not connected. To allow it, add it to SCRAPESAGA_ALLOW_ADDRESSES "
                "or to the step's allow_addresses"
            )
        return allowed[:MAX_ADDRESSES]


class _GuardedTransport(httpx.AsyncBaseTransport):
    """httpx over a connection pool whose every connection goes through GuardedBackend."""

    def __init__(
        self,
        policy: AddressPolicy,
        resolve: Resolve | None,
        ssl_context: ssl.SSLContext,
        http2: bool,
        max_connections: int,
    ) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=max_connections,
            max_keepalive_connections=max_connections // 4,
            keepalive_expiry=5.0,
            http2=http2,
            network_backend=GuardedBackend(policy, resolve or self._getaddrinfo),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; errors are httpx's."""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("this client sends bodies that are read asynchronously; use it with httpx.AsyncClient")
        with Call(request.method, request.url) as call, _httpx_errors():
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
            call.answered(response.status)
        answer = _Answer(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )
        # Latin-1 loses no byte; httpx would guess one encoding for all headers together.
        answer.headers.encoding = "iso-8859-1"
        return answer

    async def aclose(self) -> None:
        """Close all connections; a look-up that hangs is left to end by itself."""
        await self._pool.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _getaddrinfo(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Answer(httpx.Response):
    """A redirect is an answer like any other: httpx parses its Location even where it doesn't follow it, and may raise."""

    @property
    def has_redirect_location(self) -> bool:
        return False


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Turn httpcore's errors into httpx's of the same names, as httpx's own transport does."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
