"""What an answer, or the lack of one, means for the attempt."""

from __future__ import annotations

import ssl
from http import HTTPStatus

import httpx

#: The request never left: a paid call that ends so cost nothing.
NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

#: Request Timeout, Too Early, Too Many Requests: the server itself says "again, later".
_LATER = frozenset({408, 425, 429})


def is_transient(status: int) -> bool:
    """Whether the same request may well succeed later."""
    return status in _LATER or status >= 500


def describe_status(status: int) -> str:
    """Return a status as people know it, for example "404 Not Found"."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def describe_failure(error: Exception) -> str:
    """Say in a few words what went wrong on the wire; many of these exceptions carry no text of their own."""
    text = str(error) or type(error).__name__
    match error:
        case httpx.ConnectTimeout():
            return f"no connection in time ({text})"
        case httpx.PoolTimeout():
            return "no free connection in time"
        case httpx.TimeoutException():
            return f"no answer in time ({text})"
        case httpx.ConnectError():
            return f"no connection: {text}{_certificate(error)}"
        case httpx.NetworkError():
            return f"connection lost ({text})"
        case httpx.ProtocolError():
            return f"not the HTTP that was expected: {text}"
        case _:
            return text


def _certificate(error: BaseException) -> str:
    cause = error.__cause__ or error.__context__
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return "" if cause is None else "; for an authority of your own set SSL_CERT_FILE to its PEM file"
