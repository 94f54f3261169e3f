"""How much of a page is read: characters, tags, attributes, values of JSON-LD, text of elements inside of each other.

What takes time or memory grows with one of these. A page over any of them is refused as a whole, with the number and the
limit in the error: a part of it would give values that look right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

#: The largest pages that shops serve have some three million. Up to here parsing takes under 2 s and 300 MiB.
MOST_CHARACTERS = 8 * 1024 * 1024
#: Opening tags. A large product page has 20,000 elements; each takes some 800 bytes, here and in libxml2.
MOST_TAGS = 150_000
#: Of all elements together: some 250 bytes each in libxml2.
MOST_ATTRIBUTES = 500_000
#: Of one element, with different names: libxml2 compares each with all before it.
MOST_NAMES = 2_000
#: Objects, lists and members of all JSON-LD: a page with all its reviews has some 20,000.
MOST_JSON_VALUES = 120_000
#: Characters taken out of elements; of elements inside of each other they count each time.
MOST_TEXT = 4 * MOST_CHARACTERS

# In a smaller page even the most attributes that it can hold take libxml2 less than a tenth of a second.
_SMALL = 48 * 1024
# In a smaller page the attributes of all elements take less than 200 MiB.
_LARGE = 3 * 1024 * 1024

# Every repetition is possessive: what it took it never gives back, so that each character is looked at once.
_ATTRIBUTE = r"""[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+"?+|'[^']*+'?+|[^\s>"'][^\s>]*+)?+)?+"""
_RAW = "(?i:script|style|textarea|title|xmp|iframe|noembed|noframes)"
# Quicker to rule out than all of them.
_RAW_BEGINS = "(?=[sS][cCtT]|[tT][eEiI]|[xX][mM]|[iI][fF]|[nN][oO])"
_COMMENT = r"!--(?:[^-]++|-(?!->))*+"
# A page as the HTML standard cuts it, up to the first tag with too many attributes.
_UP_TO_CROWDED = re.compile(
    rf"[^<]*+(?:<(?:/[^<]*+|"
    rf"{_RAW_BEGINS}{_RAW}(?=[\s/>])(?:{_ATTRIBUTE}){{0,{MOST_NAMES}}}+[\s/]*+(?:>|\Z)(?:[^<]++|<(?!/{_RAW}))*+|"
    rf"[a-zA-Z][^\s/>]*+(?:{_ATTRIBUTE}){{0,{MOST_NAMES}}}+[\s/]*+(?:>[^<]*+|\Z)|"
    rf"{_COMMENT}[^<]*+|(?![a-zA-Z/])[^<]*+))*+"
)
_TAG = re.compile(rf"<{_COMMENT}|<[a-zA-Z][^\s/>]*+((?:{_ATTRIBUTE})*+)")
_NAME = re.compile(rf"(?=[\s/]*+([^\s/>][^\s/>=]*+)){_ATTRIBUTE}")


class PageTooLarge(Exception):
    """The page is more than is read of one; the message says of what there is too much."""


def check_source(html: str) -> None:
    """Refuse a page that could not be parsed in bounded time and memory. Raises PageTooLarge."""
    if len(html) > MOST_CHARACTERS:
        raise PageTooLarge(f"the page has {len(html):,} characters, over the {MOST_CHARACTERS:,} that are read")
    if (tags := html.count("<")) > MOST_TAGS and (tags := tags - html.count("</")) > MOST_TAGS:
        raise PageTooLarge(f"the page has some {tags:,} tags, over the {MOST_TAGS:,} that are read")
    if len(html) > _SMALL:
        at = 0
        while (end := _up_to_crowded(html, at)) < len(html):
            at = _check_names(html, end)
    if len(html) > _LARGE and sum(1 for _ in islice(_attributes(html), MOST_ATTRIBUTES + 1)) > MOST_ATTRIBUTES:
        raise PageTooLarge(f"the page has over {MOST_ATTRIBUTES:,} attributes, which is more than is read")


def _up_to_crowded(html: str, at: int) -> int:
    match = _UP_TO_CROWDED.match(html, at)
    return match.end() if match else at


def _check_names(html: str, at: int) -> int:
    """Pass over a tag with many attributes, unless they have as many names."""
    tag = _TAG.match(html, at)
    if tag is None:
        return at + 1
    names: set[str] = set()
    for name in _NAME.finditer(html, tag.start(1), tag.end(1)):
        names.add(name[1].lower())
        if len(names) > MOST_NAMES:
            raise PageTooLarge(f"an element has over {MOST_NAMES:,} attributes, which is more than is read")
    return tag.end()


def _attributes(html: str) -> Iterator[re.Match[str]]:
    for tag in _TAG.finditer(html):
        if tag.start(1) < tag.end(1):
            yield from _NAME.finditer(html, tag.start(1), tag.end(1))
