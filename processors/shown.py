"""What messages and logs show of a URL: where it leads, and nothing that may be a secret."""

from __future__ import annotations

LONGEST = 200
QUERY = "?..."


def shown_url(url: object) -> str:
    """Return a URL without user name, password, query and fragment; of a long one the beginning. Takes any text."""
    place, mark, _ = str(url).partition("#")[0].partition("?")
    scheme, colon, rest = place.rpartition("://")
    authority, slash, path = rest.lstrip("/").partition("/")
    return (scheme + colon + authority.rpartition("@")[2] + slash + path)[:LONGEST] + (QUERY if mark else "")
