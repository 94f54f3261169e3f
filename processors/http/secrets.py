"""Authentication by secrets that are named in the pipeline and known only to the worker."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from processors.errors import ConfigurationError, PipelineError
from processors.redaction import REDACTED, SHORTEST_REDACTED


class BasicAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HTTP basic authentication; `password` names a secret."""

    user: str
    password: str


class HeaderAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A header of any name; `secret` names its value."""

    name: str
    secret: str


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of: a bearer token (`bearer` names the secret), basic authentication, a header."""

    bearer: str | None = None
    basic: BasicAuth | None = None
    header: HeaderAuth | None = None

    def check(self) -> None:
        """Refuse none or several of the three ways."""
        if sum(way is not None for way in (self.bearer, self.basic, self.header)) != 1:
            raise PipelineError("auth: give exactly one of bearer, basic, header")

    def headers(self, secret: Callable[[str], str]) -> Credentials:
        """Return the headers to send, made of the secrets as they are now: they may have been rotated."""
        if self.bearer is not None:
            token = _sendable(self.bearer, secret(self.bearer))
            return Credentials({"Authorization": f"Bearer {token}"}, (token,))
        if self.basic is not None:
            password = secret(self.basic.password)
            pair = base64.b64encode(f"{self.basic.user}:{password}".encode()).decode()
            return Credentials({"Authorization": f"Basic {pair}"}, (password, pair))
        if self.header is not None:
            value = _sendable(self.header.secret, secret(self.header.secret))
            return Credentials({self.header.name: value}, (value,))
        return Credentials({}, ())


def _sendable(name: str, value: str) -> str:
    # Checked here: the HTTP library would raise an error with the value in it.
    if not (value.isascii() and value.isprintable()):
        raise ConfigurationError(
            f"secret {name} has characters that no HTTP header can carry: is there a line break in it?"
        )
    return value


def _any_spelling(value: str) -> re.Pattern[str]:
    characters = ("".join(f"%{byte:02x}" for byte in character.encode()) for character in value)
    either = (f"(?:{re.escape(plain)}|(?i:{encoded}))" for plain, encoded in zip(value, characters, strict=True))
    return re.compile("".join(either))


class Credentials:
    """Headers to send, and how to keep them out of everything else."""

    def __init__(self, headers: dict[str, str], values: tuple[str, ...]) -> None:
        self.headers = headers
        # As they are, in a URL, and in JSON; the longest first: one may be the beginning of another.
        spelt = {spelling for value in values for spelling in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
        self._spellings = tuple(_any_spelling(value) for value in values if len(value) >= SHORTEST_REDACTED)
        self._values = tuple(
            value.encode() for value in sorted(spelt, key=len, reverse=True) if len(value) >= SHORTEST_REDACTED
        )

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self.headers)})"

    def redact(self, text: bytes) -> bytes:
        """Redact the secrets in what a server said: some servers answer with the request that they got."""
        for value in self._values:
            text = text.replace(value, REDACTED.encode())
        return text

    def redact_text(self, text: str) -> str:
        """The same in a short text, a header, a URL or a message, with any of its characters percent-encoded."""
        for spelling in self._spellings:
            text = spelling.sub(REDACTED, text)
        return text
