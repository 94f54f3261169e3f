"""The text of a response body, whatever its bytes are."""

from __future__ import annotations

import codecs

from w3lib.encoding import html_to_unicode


def decode(body: bytes, content_type: str | None) -> tuple[str, str]:
    """The text, with the encoding it was read by; undecodable bytes become U+FFFD, nothing is ever raised.

    In this order: byte-order mark, `charset` of the Content-Type header, the page's own <meta>, UTF-8 if the bytes
    are valid UTF-8, Windows-1252 (what browsers fall back to).
    """
    try:
        encoding, text = html_to_unicode(_header(content_type), body, auto_detect_fun=_utf8_if_valid)
    except (LookupError, ValueError):
        # Python has codecs that are no charsets (hex, idna), and a page may name them.
        encoding = _utf8_if_valid(body)
        text = body.decode(encoding, "replace")
    return text.removeprefix("\ufeff"), encoding


def _header(content_type: str | None) -> str | None:
    # A header of control characters or surrogates names no charset, and w3lib's own parsing need not bear it.
    return content_type if content_type and content_type.isascii() else None


def _utf8_if_valid(body: bytes) -> str:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return codecs.lookup("utf-8").name
