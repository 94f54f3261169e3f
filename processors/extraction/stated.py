"""Facts that a page states as label with value: table rows, definition lists, "Label: value" in running text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from processors.extraction.outline import Shown
from processors.extraction.page import Page

# A label is short; a sentence that happens to hold its word is none.
_LONGEST_LABEL = 40
_LONGEST = 300
_ONLY_SEPARATORS = re.compile(r"[\s:：#.\-–—|\u200e\u200f]*")
_LEADING = " :：#.-–—\u200e\u200f"
# Between a label's text and its value's there may be a colon or a bullet in elements of their own.
_LOOK_AHEAD = 4


def stated(page: Page, label: re.Pattern[str], start: int = 0) -> Iterator[str]:
    """What follows each text that begins with the label, from `start` on: the rest of it, else the next text."""
    texts = page.texts
    for at in range(start, len(texts)):
        text = texts[at].text
        match = label.match(text) if len(text) <= _LONGEST else None
        if match is None:
            continue
        rest = text[match.end() :]
        if value := rest.lstrip(_LEADING):
            if value != rest:
                yield value
        elif len(text) <= _LONGEST_LABEL:
            yield _next(texts[at + 1 : at + _LOOK_AHEAD])


def _next(texts: Sequence[Shown]) -> str:
    return next((shown.text.lstrip(_LEADING) for shown in texts if not _ONLY_SEPARATORS.fullmatch(shown.text)), "")
