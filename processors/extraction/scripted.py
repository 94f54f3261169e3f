"""Values that a page's scripts give under telling keys: `"sku": "A-1"`, `price = 12.99`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from processors.extraction.page import Page


@dataclass(frozen=True, slots=True)
class Keys:
    """Spellings of a key, each with the pattern of its value as the pattern's first group.

    One pattern a spelling: a pattern that starts with fixed text is searched many times faster than alternatives.
    """

    patterns: tuple[tuple[str, re.Pattern[str]], ...]

    def values(self, page: Page) -> Iterator[str]:
        """The values of the first spelling in document order, then those of the next."""
        held: dict[bytes, bool] = {}
        for key, pattern in self.patterns:
            # Most spellings differ in case alone: one search tells that a page has none of them.
            word = key.lower().encode()
            if word not in held:
                held[word] = word in page.lowered_scripts
            if held[word] and key in page.scripts:
                for match in pattern.finditer(page.scripts):
                    yield match[1]


def keys(spellings: tuple[str, ...], after: str, value: str, *, bare: bool = False) -> Keys:
    """Keys that end in a spelling and `after`, in quotes (escaped, perhaps; `bare`: or none), with a matching value."""
    # White space is taken for good, or a million spaces would be tried in a million ways.
    assigned = rf"""\\?["']{"?" if bare else ""}\s*+[:=]\s*+"""
    return Keys(tuple((key, re.compile(f"{re.escape(key)}{after}{assigned}{value}")) for key in spellings))
