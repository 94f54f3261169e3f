"""Checks on what a pipeline says about requests, before any is sent."""

from __future__ import annotations

import re
from urllib.parse import quote

from processors.errors import PipelineError
from processors.http.url import BadUrl, Url

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_url(where: str, text: str) -> None:
    """Refuse what is no URL to request. Raises PipelineError."""
    try:
        Url.of(text)
    except BadUrl as error:
        raise PipelineError(f"{where}: {error}") from error


def check_header(where: str, name: str, value: str) -> None:
    """Refuse a header that HTTP can't carry. Raises PipelineError."""
    if not _HEADER_NAME.fullmatch(name):
        raise PipelineError(f"{where}: {name!r} is not a header name")
    if not (value.isascii() and value.isprintable()):
        raise PipelineError(f"{where}: the value of {name} has characters that are not allowed in a header")


#: Marks a value that was encoded; a plain one that begins so is encoded too, so that no two keys are ever one.
_ENCODED = "UTF-8''"


def header_value(text: str) -> str:
    """Return a text as a header can carry it: plain ASCII as it is, else in the form of RFC 8187, told apart for certain."""
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith(_ENCODED):
        return text
    return _ENCODED + quote(text, safe="")
