"""Finds a secret in what others wrote, in every spelling that a server may use when it repeats what it was sent.

In plain; with any of its characters escaped as JSON, JavaScript, HTML, URLs and shells do it, escapes of escapes too; in
base64 at each of its three alignments, in hex, in UTF-16. What is escaped is decoded layer by layer, and each layer is
searched for fixed patterns: the time is linear in the text, whatever it is.

A secret that is short or a common word is not searched for: a page about 2024 would lose its year because somebody's
password is 2024.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from html.entities import html5

#: What stands in the place of a secret; processors/redaction.py, which looks for secrets too, has it from here.
REDACTED = "***"
#: A shorter text may stand in any page.
SHORTEST_SEARCHED = 8
_SHORTEST_NUMBER = 12
_SHORTEST_WORD = 16
# Those of the lists of stolen passwords that the rules above let pass.
_COMMON = frozenset(
    "password1 password12 password123 password1! passw0rd p@ssw0rd p@ssword pa$$word qwerty12 qwerty123 qwertyuiop1 1q2w3e4r "
    "1q2w3e4r5t 1qaz2wsx abcd1234 abc12345 abc123456 a1234567 admin123 admin1234 changeme1 changeme123 change_me change-me "
    "letmein1 letmein123 welcome1 welcome123 secret12 secret123 test1234 test-key test_key demo1234 default1 iloveyou1 "
    "superman1 football1 baseball1 trustno1 zaq12wsx your-key your_key your-token api-key api_key my-token my_token "
    "access-token access_token super-secret supersecret1 root1234 user1234 guest123 example1 example-key".split()
)
#: Escapes of escapes of escapes: a URL in JSON in an attribute.
_LAYERS = 4

#: What escapes are made of: decoded always, for what they spell may be an escape in its turn.
_OF_ESCAPES = frozenset(b"%&#;\\{}0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# A pair of surrogates is one character.
_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"

_Span = tuple[int, int]


def weakness(secret: str) -> str | None:
    """Say why a secret can't be told from ordinary text; None for a good one."""
    if len(secret) < SHORTEST_SEARCHED:
        return f"is shorter than {SHORTEST_SEARCHED} characters"
    if secret.lower() in _COMMON or len(set(secret)) < 4:
        return "is a common password"
    if secret.isdigit() and len(secret) < _SHORTEST_NUMBER:
        return "is a number that a page may have"
    if secret.isalpha() and len(secret) < _SHORTEST_WORD and secret[1:].islower() | secret.isupper():
        return "may be an ordinary word"
    return None


class _Escapes:
    """The escapes of some characters; those of others are left as they are, and cost nothing."""

    def __init__(self, characters: frozenset[int]) -> None:
        ascii_only = max(characters) < 0x80
        hexadecimal = _hexadecimal(characters)
        marks = b"".join(b"\\x%02x" % one for one in characters if one < 0x80 and not chr(one).isalnum())
        names = (name for name, text in html5.items() if name.endswith(";") and characters.issuperset(text.encode()))
        numbers = b"|".join(b"%d" % one for one in sorted(characters, reverse=True))
        repeated = (
            (b"%", b"(?:" + hexadecimal + b")"),
            (rb"\\", b"u00(?:" + hexadecimal + b")" if ascii_only else b"u[0-9a-fA-F]{4}"),
            (rb"\\", b"[" + marks + b"]"),
        )
        backslash = (
            rb"u\{0{0,4}(?:" + hexadecimal + rb")\}" if ascii_only else rb"u\{[0-9a-fA-F]{1,6}\}",
            b"x(?:" + hexadecimal + b")",
            b"|".join(b"%03o" % one for one in characters),
        )
        ampersand = (
            b"#0{0,5}(?:" + numbers + b")(?![0-9]);?" if ascii_only else b"#[0-9]{1,8};?",
            b"#[xX]0{0,5}(?:" + hexadecimal + b")(?![0-9a-fA-F]);?" if ascii_only else b"#[xX][0-9a-fA-F]{1,8};?",
            b"|".join(re.escape(name.encode()) for name in names),
        )
        # Each alternative begins with a character of its own: then the engine skips all others at its full speed.
        once = (
            rb"\\(?:" + b"|".join(backslash) + b")",
            b"&(?:" + b"|".join(ampersand) + b")",
            rb"\x00\x00*",
        )
        #: One escape at a time, where places matter.
        self.one = re.compile(b"|".join((_PAIR, *(mark + rest for mark, rest in repeated), *once)))
        #: Runs of the commonest together: they are decoded at the speed of C.
        runs = (mark + rest + b"(?:" + mark + rest + b")*" for mark, rest in repeated)
        self.run = re.compile(b"|".join((*runs, *once)))


def _hexadecimal(characters: frozenset[int]) -> bytes:
    """Return a pattern of these characters' numbers in hexadecimal, in either case."""
    by_first: dict[int, set[bytes]] = {}
    for one in characters:
        by_first.setdefault(one >> 4, set()).update((b"%x" % (one & 15), b"%X" % (one & 15)))
    return b"|".join(
        b"[%x%X][" % (first, first) + b"".join(sorted(last)) + b"]" for first, last in sorted(by_first.items())
    )


class SecretSearch:
    """Looks for some secrets; those that can't be told from ordinary text are left out."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        strong = [secret for secret in secrets if weakness(secret) is None]
        characters = frozenset(b"".join(secret.encode("utf-8", "surrogatepass") for secret in strong))
        self._escapes = _Escapes(characters | _OF_ESCAPES)
        found = {pattern for secret in strong for pattern in _patterns(secret, self._escapes)}
        # The longest first: one may be the beginning of another.
        self._patterns = tuple(sorted(found, key=len, reverse=True))

    def redact(self, data: bytes) -> bytes:
        """Return the data with *** in the place of each secret; the very same object if there is none."""
        if not self._patterns or not any(self._found(layer) for layer in _layers(data, self._escapes)):
            return data
        return _cut(data, self._spans(data))

    def redact_text(self, text: str) -> str:
        """The same for a text."""
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.redact(data)
        return text if redacted is data else redacted.decode("utf-8", "replace")

    def _found(self, layer: bytes) -> bool:
        return any(pattern in layer for pattern in self._patterns)

    def _spans(self, data: bytes) -> list[_Span]:
        """Return where secrets are, as places in the data as it came."""
        spans: list[_Span] = []
        layer, back = data, _Places.none()
        for _ in range(_LAYERS + 1):
            for pattern in self._patterns:
                place = layer.find(pattern)
                while place >= 0:
                    spans.append(back(place, place + len(pattern)))
                    place = layer.find(pattern, place + len(pattern))
            decoded, places = _decoded(layer, self._escapes)
            if decoded == layer:
                break
            layer, back = decoded, places.then(back)
        return spans


class _Places:
    """Where the bytes of a decoded layer came from, in the layer before it."""

    def __init__(self, starts: list[int], sources: list[_Span], literal: list[bool]) -> None:
        self._starts, self._sources, self._literal = starts, sources, literal

    @staticmethod
    def none() -> Callable[[int, int], _Span]:
        """Return the places of what was not decoded."""
        return lambda start, end: (start, end)

    def then(self, back: Callable[[int, int], _Span]) -> Callable[[int, int], _Span]:
        """Return the way back to where `back` leads."""
        return lambda start, end: back(self._at(start)[0], self._at(end - 1)[1])

    def _at(self, place: int) -> _Span:
        index = bisect_right(self._starts, place) - 1
        first, last = self._sources[index]
        if not self._literal[index]:
            return first, last
        return first + place - self._starts[index], first + place - self._starts[index] + 1


def _layers(data: bytes, escapes: _Escapes) -> Iterable[bytes]:
    yield data
    for _ in range(_LAYERS):
        decoded = escapes.run.sub(_plain, data)
        if decoded == data:
            return
        data = decoded
        yield data


def _decoded(data: bytes, escapes: _Escapes) -> tuple[bytes, _Places]:
    out = bytearray()
    starts: list[int] = []
    sources: list[_Span] = []
    literal: list[bool] = []
    place = 0
    for found in escapes.one.finditer(data):
        for start, end, piece in ((place, found.start(), None), (*found.span(), _plain(found))):
            text = data[start:end] if piece is None else piece
            if text:
                starts.append(len(out))
                sources.append((start, end))
                literal.append(piece is None)
                out += text
        place = found.end()
    starts.append(len(out))
    sources.append((place, len(data)))
    literal.append(True)
    return bytes(out) + data[place:], _Places(starts, sources, literal)


def _plain(found: re.Match[bytes]) -> bytes:
    """Return what an escape stands for, or itself if it stands for nothing."""
    escape = found[0]
    match escape[:1]:
        case b"%":
            return bytes.fromhex(escape.replace(b"%", b"").decode())
        case b"\0":
            return b""
        case b"&":
            return _entity(escape)
    if escape[1:2] not in b"ux0123":
        return escape[1::2]
    if escape[1:2] in b"0123":
        return bytes((int(escape[1:], 8),))
    if escape[1:2] == b"x":
        return bytes.fromhex(escape[2:].decode())
    if escape[2:3] == b"{":
        return _character(int(escape[3:-1], 16), escape)
    units = bytes.fromhex(escape.replace(b"\\u", b"").decode())
    return units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")


def _entity(escape: bytes) -> bytes:
    name = escape[1:].decode()
    if not name.startswith("#"):
        return html5[name].encode() if name in html5 else escape
    digits = name[1:].rstrip(";")
    return _character(int(digits[1:], 16) if digits[0] in "xX" else int(digits), escape)


def _character(code: int, escape: bytes) -> bytes:
    return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else escape


def _patterns(secret: str, escapes: _Escapes) -> Iterable[bytes]:
    raw = secret.encode("utf-8", "surrogatepass")
    yield raw
    # The secret may itself have what looks like an escape, and is decoded with what is around it.
    yield from (layer for layer in _layers(raw, escapes) if len(layer) >= SHORTEST_SEARCHED)
    # A form writes a space so; a host name loses its capitals.
    yield raw.replace(b" ", b"+")
    yield raw.lower()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    if not secret.isascii():
        yield secret.encode("utf-16-le", "surrogatepass")
        yield secret.encode("utf-16-be", "surrogatepass")
        yield secret.encode("latin-1", "ignore") if secret.isprintable() and _is_latin(secret) else raw
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        # Only characters that no neighbour of the secret has a part in.
        fixed = encoded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
        yield fixed
        yield fixed.translate(_URL_SAFE)


def _is_latin(text: str) -> bool:
    return all(ord(character) < 0x100 for character in text)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _cut(data: bytes, spans: list[_Span]) -> bytes:
    out, place = bytearray(), 0
    for start, end in _merged(spans):
        out += data[place:start] + _stars(data[start:end])
        place = end
    return bytes(out + data[place:])


def _merged(spans: list[_Span]) -> list[_Span]:
    """Return the places in order, those that overlap as one."""
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _stars(secret: bytes) -> bytes:
    """Return *** in the width in which the secret was written: a byte too many would shift the rest of a UTF-16 page."""
    if b"\0" not in secret:
        return REDACTED.encode()
    gap = max(1, len(secret[1:]) - len(secret[1:].lstrip(b"\0")))
    stars = (b"\0" * gap).join(b"%c" % char for char in REDACTED.encode())
    before, after = secret.startswith(b"\0"), gap == 1 and secret.endswith(b"\0")
    return b"\0" * before + stars + b"\0" * after


# --- the secrets of this process ----------------------------------------------------------------------------------

_known: set[str] = set()
_search = SecretSearch()


def remember(secrets: Iterable[str]) -> None:
    """Look for these from now on, wherever something leaves this process: in reasons, spans and log lines."""
    global _search
    fresh = set(secrets) - _known
    if fresh:
        _known.update(fresh)
        _search = SecretSearch(_known)


def redact_known(text: str) -> str:
    """Return a text without the secrets of this process."""
    return _search.redact_text(text)
