"""The encoding that a page's first bytes name: the HTML standard's "prescan a byte stream to determine its encoding"."""

from __future__ import annotations

import re
from collections.abc import Iterator

import webencodings

# The standard looks at 1,024 bytes, and says that more may be: shops put scripts before their <meta>.
_FIRST_BYTES = 4096
_XML_IN_UTF16 = {b"<\x00?\x00x\x00": "utf-16le", b"\x00<\x00?\x00x": "utf-16be"}
_XML_ENCODING = re.compile(rb"""<\?xml[^>]*?\sencoding[\s\0]*=[\s\0]*(?:"([^">]*)"|'([^'>]*)')""")
# A comment, a tag, or anything else that ends at the next ">".
_MARKUP = re.compile(rb"<(?:!--(?P<comment>)|/?(?P<tag>[a-zA-Z][^\s/>]*)|[!/?])")
_ATTRIBUTE = re.compile(
    rb"""[\s/]*(?P<name>[^\s/>][^\s/>=]*)(?:\s*=\s*(?:"(?P<a>[^"]*)"|'(?P<b>[^']*)'|(?P<c>[^\s>"'][^\s>]*)))?"""
)
_CHARSET_IN = re.compile(r"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"'][^\s;]*))""")


def prescan(body: bytes) -> webencodings.Encoding | None:
    """The encoding named by a <meta> or an XML declaration in the first bytes, or None."""
    first = body[:_FIRST_BYTES]
    for begin, name in _XML_IN_UTF16.items():
        if first.startswith(begin):
            return webencodings.lookup(name)
    for attributes in _metas(first):
        if encoding := _of_meta(attributes):
            return encoding
    declared = _XML_ENCODING.match(first)
    return None if declared is None else _readable(_text(declared[1] or declared[2] or b""))


def charset_in(content: str) -> str | None:
    """The charset in a <meta>'s `content`: "extracting a character encoding from a meta element"."""
    found = _CHARSET_IN.search(content.lower())
    return None if found is None else found[1] or found[2] or found[3]


def _metas(first: bytes) -> Iterator[dict[bytes, bytes]]:
    at = 0
    while found := _MARKUP.search(first, at):
        if found["comment"] is not None:
            # "<!-->" is a whole comment.
            at = first.find(b"-->", found.start() + 2)
        elif found["tag"] is not None:
            attributes, at = _attributes(first, found.end())
            if found[0].lower() == b"<meta":
                yield attributes
            continue
        else:
            at = first.find(b">", found.end())
        if at < 0:
            return
        at += 1


def _attributes(first: bytes, at: int) -> tuple[dict[bytes, bytes], int]:
    attributes: dict[bytes, bytes] = {}
    while found := _ATTRIBUTE.match(first, at):
        value = found["a"] or found["b"] or found["c"] or b""
        attributes.setdefault(found["name"].lower(), value)
        at = found.end()
    return attributes, at


def _of_meta(attributes: dict[bytes, bytes]) -> webencodings.Encoding | None:
    if b"charset" in attributes:
        return _readable(_text(attributes[b"charset"]))
    if attributes.get(b"http-equiv", b"").lower() != b"content-type":
        return None
    return _readable(charset_in(_text(attributes.get(b"content", b""))))


def _readable(label: str | None) -> webencodings.Encoding | None:
    """The encoding of a label in a page: as its bytes could be read to find it, they are neither of two standard ones."""
    encoding = webencodings.lookup(label) if label else None
    if encoding is None:
        return None
    if encoding.name in ("utf-16le", "utf-16be"):
        return webencodings.UTF8
    return webencodings.lookup("windows-1252") if encoding.name == "x-user-defined" else encoding


def _text(value: bytes) -> str:
    return value.decode("latin-1")
