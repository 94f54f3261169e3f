"""Who may ask the embedded ClickHouse: programs of this machine that know its password, and no web page."""

from __future__ import annotations

import base64
import binascii
from email.message import Message
from hmac import compare_digest
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

USER = "default"
NO_PAGES = "Web pages have no access here: use a client that sends no Origin."
_AUTHENTICATION_FAILED = 516


class Refusal(NamedTuple):
    """An answer for somebody who may not ask; `code` is ClickHouse's error number, if there is one."""

    status: HTTPStatus
    message: str
    code: int = 0


def refusal(headers: Message, path: str, port: int, password: str) -> Refusal | None:
    """Return why this request isn't answered, None if it is; its body need not have been read."""
    # A name of somebody's own that leads to 127.0.0.1 would make this server a part of a web page's site.
    hosts = headers.get_all("Host", [])
    if len(hosts) != 1 or hosts[0].lower() not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        return Refusal(HTTPStatus.FORBIDDEN, f"This is 127.0.0.1:{port}: ask it by this name.")
    # Browsers say from where a request comes; programs don't.
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none":
        return Refusal(HTTPStatus.FORBIDDEN, NO_PAGES)
    url = urlsplit(path)
    # As with the server: whether it is up is no secret.
    if url.path == "/ping" or _is_known(headers, url.query, password):
        return None
    message = (
        f"Code: {_AUTHENTICATION_FAILED}. DB::Exception: {USER}: Authentication failed: the password is in the file "
        f"`password` of this engine's folder. (AUTHENTICATION_FAILED)"
    )
    return Refusal(HTTPStatus.FORBIDDEN, message, _AUTHENTICATION_FAILED)


def _is_known(headers: Message, query: str, password: str) -> bool:
    user, given = _credentials(headers, query)
    return user == USER and compare_digest(given.encode("utf-8", "surrogateescape"), password.encode())


def _credentials(headers: Message, query: str) -> tuple[str, str]:
    """Return user and password, sent in one of the three ways that the server knows."""
    if "X-ClickHouse-User" in headers:
        return str(headers["X-ClickHouse-User"]), str(headers.get("X-ClickHouse-Key", ""))
    kind, _, encoded = str(headers.get("Authorization", "")).partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, given = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return "", ""
        return user, given
    named = parse_qs(query, keep_blank_values=True)
    return named.get("user", [USER])[-1], named.get("password", [""])[-1]
