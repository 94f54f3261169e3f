"""Where a redirect leads, and which headers don't go there."""

from __future__ import annotations

import re

import httpx

from processors.errors import StepFailed
from processors.http.classify import describe_status
from processors.http.url import BadUrl, Url
from processors.redaction import sanitised_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Names of headers that carry a right rather than a wish. Part of a name is enough: X-Auth-Token, Ocp-Apim-Subscription-Key.
_KEY_NAME = re.compile(
    "auth|cookie|token|secret|key|passw|session|credential|signature|jwt|bearer|csrf|xsrf", re.IGNORECASE
)


def looks_like_key(name: str) -> bool:
    """Whether a header may carry a credential, and so follows no redirect to another origin."""
    return _KEY_NAME.search(name) is not None


def redirect_target(url: Url, response: httpx.Response) -> Url:
    """Return where a redirect leads. Raises StepFailed if it doesn't say, or says what can't be requested."""
    locations = response.headers.get_list("location")
    if not locations or not locations[0]:
        raise StepFailed(f"{sanitised_url(url)} answered {describe_status(response.status_code)} without a Location")
    location = header_text(locations[0])
    try:
        return url.join(location)
    except BadUrl as error:
        raise StepFailed(f"{sanitised_url(url)} redirects to {sanitised_url(location)!r}: {error}") from error


def header_text(value: str) -> str:
    """Return an address in a header that was decoded as Latin-1: UTF-8 where it is, else each byte escaped as it came.

    Servers that don't write UTF-8 compare bytes: `/caf\\xe9` is `/caf%E9` to them, whatever other headers are in.
    """
    raw = value.encode("latin-1", "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)
