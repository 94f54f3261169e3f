"""Web addresses as browsers read them: the URL standard of the WHATWG, host names by IDNA 2008 (UTS 46).

Parsing is can_ada's: the parser of Node.js. It takes an address apart and puts it together again without touching what a
server may care about: the order of arguments, their escapes, `;`, an empty `?`. What it does change, every browser changes
too before it asks: upper case in scheme and host, a default port, dot segments, characters that have to be escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import can_ada

from processors.redaction import sanitised_url
from processors.redaction.secret_search import redact_known

if TYPE_CHECKING:
    import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: What DNS can carry (RFC 1035): a resolver answers a longer name with an error of its own kind.
_MAX_LABEL_CHARS = 63
_MAX_HOST_CHARS = 253

Origin = tuple[str, str, int]


#: Servers take some 8,000 bytes of a request's first line.
MAX_URL_CHARS = 8_192


class BadUrl(ValueError):
    """A text is no address that can be requested; says why, without what may be secret in it."""


def parsed(text: str) -> can_ada.URL:
    """Return an absolute http or https URL, taken apart. Raises BadUrl."""
    if len(text) > MAX_URL_CHARS:
        raise BadUrl(f"a URL of {len(text)} characters; at most {MAX_URL_CHARS}")
    text = text.strip(" ")
    if not text.isprintable() and any(ord(char) < 0x20 or char == "\x7f" for char in text):
        raise BadUrl("a URL with control characters")
    scheme, colon, rest = text.partition("://")
    if not colon or scheme.lower() not in _DEFAULT_PORTS:
        raise BadUrl(f"not an absolute http or https URL: {sanitised_url(text)!r} must begin with http:// or https://")
    if not rest or rest[0] in "/\\?#":
        raise BadUrl(f"not an absolute http or https URL: {sanitised_url(text)!r} names no host")
    try:
        url = can_ada.parse(text)
    except (ValueError, TypeError) as error:
        # TypeError: a lone surrogate has no UTF-8.
        raise BadUrl(f"not a URL: {sanitised_url(text)!r}: {_why(rest)}") from error
    # An empty user name is one, too: the parser drops it, and http://@x/ would be the same job as http://x/.
    if "@" in rest and "@" in _authority(rest):
        raise BadUrl("a URL with a user name or password: it would be logged and stored; use the step's `auth`")
    # Each character beyond ASCII is sent as up to twelve.
    if len(text) * 12 > MAX_URL_CHARS and len(url.href) > MAX_URL_CHARS:
        raise BadUrl(f"a URL of {len(url.href)} characters once it is encoded; at most {MAX_URL_CHARS}")
    host = url.hostname
    if len(host) > _MAX_LABEL_CHARS or ".." in host or host[0] == ".":
        _check_labels(host)
    if url.port == "0":
        raise BadUrl(f"not a URL: {sanitised_url(text)!r}: there is no port 0")
    return url


def address_of(text: str) -> str:
    """Return what is requested of an address that somebody submitted: as it is, less the fragment. Raises BadUrl."""
    return parsed(text).href.partition("#")[0]


@dataclass(frozen=True)
class Url:
    """An address to request: `href` as the standard writes it, fragment and all."""

    href: str
    scheme: str
    #: ASCII, an IPv6 address in brackets.
    host: str
    port: int
    #: Path and query, as they are sent.
    target: str
    #: What httpx takes for this address; it may spell the target otherwise, so send `target`.
    for_httpx: httpx.URL

    @classmethod
    def of(cls, text: str) -> Url:
        """Read an absolute address. Raises BadUrl."""
        # Whoever only names a job by its address need not load an HTTP client, which loads a terminal's tools.
        import httpx

        url = parsed(text)
        scheme = url.protocol[:-1]
        port = int(url.port) if url.port else _DEFAULT_PORTS[scheme]
        try:
            for_httpx = httpx.URL(url.href)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BadUrl(f"the URL {sanitised_url(url.href)!r} can't be requested: {error}") from error
        return cls(url.href, scheme, url.hostname, port, url.pathname + _query(url.href), for_httpx)

    def join(self, reference: str) -> Url:
        """Return what a reference on this page leads to. Raises BadUrl."""
        try:
            joined = can_ada.parse(self.href) + reference
        except (ValueError, TypeError) as error:
            raise BadUrl(f"not a URL: {sanitised_url(reference)!r}") from error
        if joined.protocol not in ("http:", "https:"):
            raise BadUrl(f"{sanitised_url(joined.href)!r} must begin with http:// or https://")
        return Url.of(joined.href)

    def __str__(self) -> str:
        return self.href

    @cached_property
    def address(self) -> str:
        """What is requested: all but the fragment."""
        return self.href.partition("#")[0]

    @property
    def origin(self) -> Origin:
        """Scheme, host and port: what a credential is bound to."""
        return self.scheme, self.host, self.port


def origin_text(origin: Origin) -> str:
    """Return an origin as people write it."""
    scheme, host, port = origin
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def _query(href: str) -> str:
    # Not the parser's `search`: that of "/x?" is empty, and a server may tell "/x?" from "/x".
    _, mark, query = href.partition("#")[0].partition("?")
    return mark + query


def _authority(rest: str) -> str:
    for end in "/\\?#":
        rest = rest.partition(end)[0]
    return rest


def _check_labels(host: str) -> None:
    labels = host.removesuffix(".").split(".")
    shown = redact_known(host)[:80]
    if "" in labels:
        raise BadUrl(f"not a URL: its host {shown!r} has an empty label: is there a dot too many?")
    if len(host) > _MAX_HOST_CHARS or max(map(len, labels)) > _MAX_LABEL_CHARS:
        raise BadUrl(
            f"not a URL: its host {shown!r} is longer than DNS can carry: "
            f"at most {_MAX_LABEL_CHARS} characters between dots, {_MAX_HOST_CHARS} in all"
        )


def _why(rest: str) -> str:
    """Say what is wrong with an address that the parser refused: it gives no reason."""
    authority = _authority(rest).rpartition("@")[2]
    if "[" in authority and "]" not in authority:
        return "an IPv6 address ends in ]"
    _, colon, port = authority.rpartition(":")
    if colon and "]" not in port:
        if not (port.isascii() and port.isdigit()):
            return "its port is no number"
        if int(port[:9]) > 65535:
            return f"there is no port {redact_known(port)[:20]}"
    if any("\ud800" <= char <= "\udfff" for char in rest):
        return "it has a character that UTF-8 can't write"
    return "it has no valid host name"
