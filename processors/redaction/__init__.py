"""What people are shown of what strangers wrote: of a URL where it leads, of a text nothing that moves a terminal."""

from __future__ import annotations

import re

from processors.redaction.secret_search import REDACTED as REDACTED
from processors.redaction.secret_search import redact_known

#: A shorter one would be redacted in texts that have nothing to do with it.
SHORTEST_REDACTED = 4
LONGEST = 200
QUERY = "?***"
# C0 and C1 controls, line and paragraph separators, and marks that turn the direction of writing.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def sanitised_url(url: object) -> str:
    """Return a URL without user name, password, query and fragment; of a long one the beginning. Takes any text."""
    # Secrets first: half of one, where the text is cut, is found by nobody.
    place, mark, _ = redact_known(str(url)).partition("#")[0].partition("?")
    scheme, colon, rest = place.rpartition("://")
    authority, slash, path = rest.lstrip("/").partition("/")
    return (scheme + colon + authority.rpartition("@")[2] + slash + path)[:LONGEST] + (QUERY if mark else "")


def one_line(text: str) -> str:
    """Return a text with every character spelt out that would end its line, forge another or command a terminal."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
