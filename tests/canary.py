"""Canaries: a secret in every spelling that a server may use, and a search for it that knows them all.

The search is written to be thorough, not fast, and shares no code with what hides secrets in the product.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from html.entities import codepoint2name
from urllib.parse import quote, quote_plus, unquote_to_bytes


def _entity(char: str) -> str:
    return f"&{codepoint2name[ord(char)]};" if ord(char) in codepoint2name else char


def _percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": lambda s: json.dumps(s)[1:-1],
    "JSON, all escaped": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "JSON, in capitals": lambda s: "".join(f"\\u{ord(c):04X}" for c in s),
    "JSON with escaped slashes": lambda s: json.dumps(s, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    "JavaScript": lambda s: "".join(f"\\x{b:02x}" for b in s.encode()),
    "JavaScript, braces": lambda s: "".join(f"\\u{{{ord(c):x}}}" for c in s),
    "octal": lambda s: "".join(f"\\{b:03o}" for b in s.encode()),
    "HTML": lambda s: html.escape(s),
    "HTML, named": lambda s: "".join(map(_entity, s)),
    "HTML, decimal": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "HTML, decimal with zeros": lambda s: "".join(f"&#{ord(c):05};" for c in s),
    "HTML, hex": lambda s: "".join(f"&#x{ord(c):X};" for c in s),
    "percent": lambda s: quote(s, safe=""),
    "percent, small": lambda s: _percent(s),
    "percent, every other": lambda s: "".join(_percent(c) if i % 2 else quote(c, safe="") for i, c in enumerate(s)),
    "percent, of a form": quote_plus,
    "percent twice": lambda s: quote(quote(s, safe=""), safe=""),
    "percent in JSON in HTML": lambda s: html.escape(json.dumps(quote(s, safe=""))),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s))[3:-3],
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64, second": lambda s: base64.b64encode(b"u:" + s.encode() + b"!").decode(),
    "base64, third": lambda s: base64.b64encode(b"x" + s.encode() + b"!!").decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(b"~?" + s.encode()).decode(),
    "base64 in a URL": lambda s: quote(base64.b64encode(b"?" + s.encode()).decode(), safe=""),
    "hex": lambda s: s.encode().hex(),
    "hex in capitals": lambda s: s.encode().hex().upper(),
}  # fmt: skip


def found_in(data: bytes, secret: str) -> bool:
    """Whether a secret is in the data, in any spelling."""
    raw = secret.encode()
    # What is undone around it is undone in it.
    wanted = {raw, raw.lower(), *_undone(raw), *(two for one in _undone(raw) for two in _undone(one))}
    if all(char < "\u0100" for char in secret):
        wanted.add(secret.encode("latin-1"))
    return any(one in view for view in _views(data) for one in wanted)


def _views(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """Yield the data as it is, and undone in every way, and that again."""
    seen, views = {data}, [data]
    for _ in range(depth):
        fresh = [view for old in views for view in _undone(old) if view not in seen]
        seen.update(fresh)
        views = fresh
    for view in seen:
        yield view
        for word in re.findall(rb"[A-Za-z0-9+/_-]{8,}", view):
            for start in range(4):
                part = word[start:].translate(bytes.maketrans(b"-_", b"+/"))
                yield base64.b64decode(part + b"A" * (-len(part) % 4))
        for word in re.findall(rb"[0-9a-fA-F]{16,}", view):
            for start in range(2):
                yield bytes.fromhex(word[start : start + (len(word) - start) // 2 * 2].decode())


def _undone(data: bytes) -> set[bytes]:
    text = data.decode("utf-8", "surrogateescape")
    script = re.sub(r"\\u\{([0-9a-fA-F]{1,6})\}", lambda m: chr(min(int(m[1], 16), 0x10FFFF)), text)
    script = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), script)
    coded = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda m: bytes((int(m[1], 16),)), data)
    coded = re.sub(rb"\\([0-3][0-7]{2})", lambda m: bytes((int(m[1], 8),)), coded)
    texts = [html.unescape(text), script, re.sub(r"\\([^0-9A-Za-z])", r"\1", text)]
    undone = {
        one.encode("utf-8", "surrogateescape" if "\udc80" <= max(one, default="") <= "\udcff" else "replace")
        for one in texts
    }
    return undone | {
        coded,
        unquote_to_bytes(data),
        unquote_to_bytes(data.replace(b"+", b" ")),
        data.replace(b"\0", b""),
    }
