"""The text of a response body, whatever its bytes are, read by the HTML and Encoding standards."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

import webencodings

from processors.extraction.prescan import prescan

_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16be"), (b"\xff\xfe", "utf-16le"))
_FALLBACK = "windows-1252"
# A media type's parameter. A header that needs more than this to name a charset names none.
_LONGEST_HEADER = 500
_PARAMETER = re.compile(r""";\s*charset=(?:"([^"]*)"|([^";]*))""", re.IGNORECASE)
# The Encoding standard reads GBK with the decoder of its larger successor.
_READ_AS = {"gbk": "gb18030"}
_OF_SEVERAL_BYTES = frozenset(
    ("utf-8", "utf-16le", "utf-16be", "gbk", "gb18030", "big5", "euc-jp", "iso-2022-jp", "shift_jis", "euc-kr")
)


def decode(body: bytes, content_type: str | None) -> tuple[str, str]:
    """The text, with the encoding it was read by; undecodable bytes become U+FFFD, nothing is ever raised.

    In this order: byte-order mark, `charset` of the Content-Type header, the page's own <meta> or XML declaration,
    UTF-8 if the bytes are valid UTF-8, Windows-1252 (what browsers fall back to).
    """
    for mark, name in _MARKS:
        if body.startswith(mark):
            return _decoded(body[len(mark) :], name)
    encoding = _in_header(content_type) or prescan(body)
    if encoding is not None:
        return _decoded(body, encoding.name)
    try:
        return body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return _decoded(body, _FALLBACK)


def _in_header(content_type: str | None) -> webencodings.Encoding | None:
    found = _PARAMETER.search((content_type or "")[:_LONGEST_HEADER])
    return None if found is None else webencodings.lookup((found[1] or found[2] or "").strip())


def _decoded(body: bytes, name: str) -> tuple[str, str]:
    if name == "replacement":
        # Encodings in which a page could hide script from whoever looks at its bytes: the standard reads none of it.
        return "\ufffd" if body else "", "utf-8"
    if name not in _OF_SEVERAL_BYTES:
        return codecs.charmap_decode(body, "strict", _table(name))[0], _codec(name).name
    codec = _codec(_READ_AS.get(name, name))
    return codec.decode(body, "replace")[0], codec.name


def _codec(name: str) -> codecs.CodecInfo:
    encoding = webencodings.lookup(name)
    return codecs.lookup("utf-8") if encoding is None else encoding.codec_info


@lru_cache
def _table(name: str) -> str:
    """The character of each byte. Of those that Python leaves out the ones below 0xA0 are controls, as in browsers."""
    characters = [_codec(name).decode(bytes((byte,)), "replace")[0] for byte in range(256)]
    return "".join(chr(at) if each == "\ufffd" and at < 0xA0 else each for at, each in enumerate(characters))
