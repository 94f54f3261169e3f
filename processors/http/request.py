"""Checks on what a pipeline says about requests, before any is sent."""

from __future__ import annotations

import re

import httpx

from processors.errors import PipelineError

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def url_objection(url: httpx.URL) -> str | None:
    """Say why a URL can't be requested, or None."""
    if url.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not url.host:
        return "names no host"
    if url.port is not None and not 0 < url.port < 65536:
        return f"has the port {url.port}, which does not exist"
    if url.userinfo:
        return "carries a user name or password, which would end up in logs and topics: use `auth`"
    return None


def check_url(where: str, text: str) -> None:
    """Refuse what is no URL to request. Raises PipelineError."""
    try:
        objection = url_objection(httpx.URL(text))
    except httpx.InvalidURL as error:
        raise PipelineError(f"{where}: {text!r} is no URL: {error}") from error
    if objection is not None:
        raise PipelineError(f"{where}: the URL {objection}")


def check_header(where: str, name: str, value: str) -> None:
    """Refuse a header that HTTP can't carry. Raises PipelineError."""
    if not _HEADER_NAME.fullmatch(name):
        raise PipelineError(f"{where}: {name!r} is no header name")
    if not (value.isascii() and value.isprintable()):
        raise PipelineError(f"{where}: the value of {name} has characters that no header can carry")
