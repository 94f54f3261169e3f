"""Authentication by secrets that are named in the pipeline and known only to the worker."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import msgspec

from processors.errors import ConfigurationError, PipelineError
from processors.http.request import check_header
from processors.http.url import BadUrl, Origin, Url, origin_text
from processors.redaction.secret_search import SecretSearch, remember, weakness

log = logging.getLogger(__name__)

_GOOD_LENGTH = 16


class BasicAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HTTP basic authentication; `password` names a secret."""

    user: str
    password: str


class HeaderAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A header of any name; `secret` names its value."""

    name: str
    secret: str


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of: a bearer token (`bearer` names the secret), basic authentication, a header.

    `origins` lists who gets it: scheme, host and port, as in https://shop.example or http://shop.internal:8080; without
    a scheme https is meant. Nobody else ever does, whoever submits what, and wherever a site redirects.
    """

    bearer: str | None = None
    basic: BasicAuth | None = None
    header: HeaderAuth | None = None
    origins: tuple[str, ...] = ()

    def check(self, own: Iterable[str] = ()) -> None:
        """Refuse none or several of the three ways, and what nobody would get; `own` are URLs that the pipeline names."""
        if sum(way is not None for way in (self.bearer, self.basic, self.header)) != 1:
            raise PipelineError("auth: give exactly one of bearer, basic, header")
        if self.header is not None:
            check_header("auth: header: name", self.header.name, "")
        urls = tuple(own)
        allowed = self._allowed(urls[:1])
        if not allowed:
            raise PipelineError(
                "auth: list the sites that get it in `origins`, for example origins: [https://shop.example]: "
                "otherwise every submitted address would get it"
            )
        for url in urls[1:]:
            origin = Url.of(url).origin
            if origin not in allowed:
                raise PipelineError(
                    f"auth: {origin_text(origin)} is another origin: list it in `origins` if it gets it"
                )

    def headers(self, secret: Callable[[str], str], own: Iterable[str] = ()) -> Credentials:
        """Return the headers to send, made of the secrets as they are now: they may have been rotated."""
        made = self._made(secret, self._allowed(own))
        remember(made.values)
        return made

    def _made(self, secret: Callable[[str], str], allowed: frozenset[Origin]) -> Credentials:
        if self.bearer is not None:
            token = _sendable(self.bearer, secret(self.bearer))
            return Credentials({"Authorization": f"Bearer {token}"}, (token,), allowed)
        if self.basic is not None:
            password = secret(self.basic.password)
            both = f"{self.basic.user}:{password}"
            pair = base64.b64encode(both.encode()).decode()
            # A short password is hidden as a part of the whole, as which it travels.
            return Credentials({"Authorization": f"Basic {pair}"}, (password, both, pair), allowed)
        if self.header is not None:
            value = _sendable(self.header.secret, secret(self.header.secret))
            return Credentials({self.header.name: value}, (value,), allowed)
        return Credentials.none()

    def warn_of_weak(self, step: str, secret: Callable[[str], str]) -> None:
        """Log which of its secrets can't be told from ordinary text, and so isn't hidden if a site repeats it."""
        names = (
            self.bearer,
            None if self.basic is None else self.basic.password,
            None if self.header is None else self.header.secret,
        )
        for name in filter(None, names):
            why = weakness(secret(name))
            if why is not None:
                log.warning(
                    "secret %s %s: if a site repeats it, it is not hidden in the page; use one of %d characters or more, "
                    "letters and digits mixed",
                    name,
                    why,
                    _GOOD_LENGTH,
                    extra={"step": step},
                )

    def _allowed(self, own: Iterable[str]) -> frozenset[Origin]:
        return frozenset((*map(parse_origin, self.origins), *(Url.of(url).origin for url in own)))


def parse_origin(text: str) -> Origin:
    """Return an origin as people write it. Raises PipelineError."""
    try:
        url = Url.of(text if "://" in text else f"https://{text}")
    except BadUrl as error:
        raise PipelineError(f"auth: origins: {error}") from error
    if url.target != "/" or url.href != url.address:
        raise PipelineError(f"auth: origins: {text!r} is more than scheme, host and port: write https://shop.example")
    return url.origin


def _sendable(name: str, value: str) -> str:
    # Checked here: the HTTP library would raise an error with the value in it.
    if not (value.isascii() and value.isprintable()):
        raise ConfigurationError(
            f"secret {name} has characters that are not allowed in an HTTP header: does it contain a line break?"
        )
    return value


class Credentials:
    """Headers to send to some origins, and how to keep them out of everything else."""

    def __init__(
        self, headers: Mapping[str, str], values: tuple[str, ...], origins: frozenset[Origin] = frozenset()
    ) -> None:
        self.values = values
        self._headers = headers
        self._origins = origins
        self._search = _search_for(values)

    @classmethod
    def none(cls) -> Credentials:
        """Return those of a step without `auth`."""
        return cls({}, ())

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self._headers)})"

    def __bool__(self) -> bool:
        return bool(self._headers)

    def headers_for(self, origin: Origin) -> Mapping[str, str]:
        """Return the headers that an origin gets."""
        return self._headers if origin in self._origins else {}

    def redact(self, text: bytes) -> bytes:
        """Redact the secrets in what a server said: some servers answer with the request that they got."""
        return self._search.redact(text)

    def redact_text(self, text: str) -> str:
        """The same in a text, a header, a URL or a message."""
        return self._search.redact_text(text)


# Made once for each secret: that costs as much as looking through a page.
@lru_cache(maxsize=64)
def _search_for(values: tuple[str, ...]) -> SecretSearch:
    return SecretSearch(values)
