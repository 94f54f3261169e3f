"""Facts that a page states as label with value: table rows, definition lists, "Label: value" in running text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from processors.extraction.outline import Shown
from processors.extraction.page import Page

# A label is short; a sentence that happens to hold its word is none.
_LONGEST_LABEL = 40
_LONGEST = 160
_PARTS, _EARLY = re.compile(r"[:：#]"), 50
_ONLY_SEPARATORS = re.compile(r"[\s:：#.\-–—|\u200e\u200f]*")
_LEADING = " :：#.-–—\u200e\u200f"
# Between a label's text and its value's there may be a colon or a bullet in elements of their own.
_LOOK_AHEAD = 4

# A product page has some thousand short texts; what stands behind so many is not about its product.
_MOST_LABELS = 20_000


def stated(page: Page, label: re.Pattern[str], start: int = 0) -> Iterator[str]:
    """What follows each text that begins with the label, from `start` on: the rest of it, else the next text."""
    return (value for value, _ in stated_at(page, label, start))


def stated_at(page: Page, label: re.Pattern[str], start: int = 0, stop: int | None = None) -> Iterator[tuple[str, int]]:
    """What follows each text that begins with the label, with the label's place among the page's texts."""
    labelled = page.once(_labelled)
    first = bisect_left(labelled, (start,))
    last = len(labelled) if stop is None else bisect_left(labelled, (stop,))
    return _stated(page.texts, labelled[first:last], label)


def _labelled(page: Page) -> list[tuple[int, str]]:
    """The texts that may begin with a label, with their places: short ones, and those that part something early on."""
    found = (
        (at, shown.text)
        for at, shown in enumerate(page.texts)
        if len(shown.text) <= _LONGEST_LABEL or (len(shown.text) <= _LONGEST and _PARTS.search(shown.text, 0, _EARLY))
    )
    return list(islice(found, _MOST_LABELS))


def _stated(
    texts: Sequence[Shown], labelled: Iterable[tuple[int, str]], label: re.Pattern[str]
) -> Iterator[tuple[str, int]]:
    for at, text in labelled:
        match = label.match(text)
        if match is None:
            continue
        rest = text[match.end() :]
        if value := rest.lstrip(_LEADING):
            if value != rest:
                yield value, at
        elif len(text) <= _LONGEST_LABEL:
            yield _next(texts[at + 1 : at + _LOOK_AHEAD]), at


def _next(texts: Sequence[Shown]) -> str:
    return next((shown.text.lstrip(_LEADING) for shown in texts if not _ONLY_SEPARATORS.fullmatch(shown.text)), "")
