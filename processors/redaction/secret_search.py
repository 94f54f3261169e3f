"""Finds a secret in what others wrote, in every spelling that a server may use when it repeats what it was sent.

In plain; with any of its characters escaped as JSON, JavaScript, HTML, URLs and shells do it, escapes of escapes too; in
base64 at each of its three alignments, in hex, in UTF-16. What is escaped is decoded layer by layer, and each layer is
searched for fixed patterns: the time is linear in the text, whatever it is.

A secret that is short or a common word is not searched for: a page about 2024 would lose its year because somebody's
password is 2024.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from processors.redaction.escapes import MAX_LAYERS, Escapes, Places, Span, decoded_with_places, layers

#: What stands in the place of a secret.
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


class SecretSearch:
    """Looks for some secrets; those that can't be told from ordinary text are left out."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        strong = [secret for secret in secrets if weakness(secret) is None]
        characters = frozenset(b"".join(secret.encode("utf-8", "surrogatepass") for secret in strong))
        self._escapes = Escapes(characters)
        found = {pattern for secret in strong for pattern in _patterns(secret, self._escapes)}
        # The longest first: one may be the beginning of another.
        self._patterns = tuple(sorted(found, key=len, reverse=True))

    def redact(self, data: bytes) -> bytes:
        """Return the data with *** in the place of each secret; the very same object if there is none."""
        if not self._patterns or not any(self._found(layer) for layer in layers(data, self._escapes)):
            return data
        return _cut(data, self._spans(data))

    def redact_text(self, text: str) -> str:
        """The same for a text."""
        data = text.encode("utf-8", "surrogatepass")
        redacted = self.redact(data)
        return text if redacted is data else redacted.decode("utf-8", "replace")

    def _found(self, layer: bytes) -> bool:
        return any(pattern in layer for pattern in self._patterns)

    def _spans(self, data: bytes) -> list[Span]:
        """Return where secrets are, as places in the data as it came."""
        spans: list[Span] = []
        layer, back = data, Places.none()
        for _ in range(MAX_LAYERS + 1):
            for pattern in self._patterns:
                place = layer.find(pattern)
                while place >= 0:
                    spans.append(back(place, place + len(pattern)))
                    place = layer.find(pattern, place + len(pattern))
            decoded, places = decoded_with_places(layer, self._escapes)
            if decoded == layer:
                break
            layer, back = decoded, places.then(back)
        return spans


def _patterns(secret: str, escapes: Escapes) -> Iterable[bytes]:
    raw = secret.encode("utf-8", "surrogatepass")
    yield raw
    # The secret may itself have what looks like an escape, and is decoded with what is around it.
    yield from (layer for layer in layers(raw, escapes) if len(layer) >= SHORTEST_SEARCHED)
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


def _cut(data: bytes, spans: list[Span]) -> bytes:
    out, place = bytearray(), 0
    for start, end in _merged(spans):
        out += data[place:start] + _stars(data[start:end])
        place = end
    return bytes(out + data[place:])


def _merged(spans: list[Span]) -> list[Span]:
    """Return the places in order, those that overlap as one."""
    merged: list[Span] = []
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
