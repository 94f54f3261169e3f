"""The heading and the name of what a page is about, among logos, dialogs, hidden copies and shelves of others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import unquote

from lxml import etree

from processors.extraction.subject import plain_words
from processors.extraction.text import text_of

_MOST_HEADINGS = 12
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_DIALOG = re.compile(
    r"\b(?:modal|popup|pop-up|toast|dialog|alert|snackbar|notification|mini-?cart|lightbox|overlay|cookie|newsletter|off-?canvas|drawer)",
    re.IGNORECASE,
)
_DIALOG_ROLES = frozenset(("dialog", "alertdialog", "alert", "status"))
_FOR_READERS = re.compile(
    r"\b(?:sr-only|screen-?reader\w*|visually-?hidden|hidden|\w*hdn|off-?screen|a11y-hidden|d-none)\b", re.IGNORECASE
)
_LEVELS = 12
_MOST_INNER = 60
_INLINE = frozenset(("a", "b", "em", "font", "i", "mark", "small", "span", "strong", "sub", "sup"))
_LONGEST = 300
# Between a page's name and its site's, on either side.
_SEPARATOR = re.compile(r"\s+[-\u2013\u2014|:·•»«/>~]\s+|\s*[|｜]\s*|[:：]\s(?=[A-Z]\w+\.(?:com?|[a-z]{2})\b)")
_SHORTEST = 3


def is_hidden(element: etree._Element) -> bool:
    """Whether the element, or what it stands in, is kept from view or is a dialog that opens later."""
    for above in islice(_and_above(element), _LEVELS):
        if above.tag == "body":
            return False
        if above.get("hidden") is not None or above.get("aria-hidden") == "true" or above.get("role") in _DIALOG_ROLES:
            return True
        if above.tag in ("dialog", "template", "noscript") or _HIDDEN_STYLE.search(above.get("style", "")):
            return True
        if _DIALOG.search(f"{above.get('class', '')} {above.get('id', '')}"):
            return True
    return False


def heading_text(element: etree._Element) -> str:
    """The heading's text as one sees it: without words for screen readers, buttons and links to other things in it."""
    inner = list(islice(element.iter(), 1, _MOST_INNER + 2))
    if len(inner) > _MOST_INNER or not any(map(_is_unseen, inner)):
        return text_of(element, _LONGEST)
    return " ".join("".join(_seen(element)).split()) or text_of(element, _LONGEST)


def _seen(element: etree._Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        apart = "" if child.tag in _INLINE else " "
        if isinstance(child.tag, str) and not _is_unseen(child):
            yield apart
            yield from _seen(child)
            yield apart
        yield child.tail or ""


def _is_unseen(element: etree._Element) -> bool:
    if not isinstance(element.tag, str) or element.tag in ("button", "select"):
        return isinstance(element.tag, str)
    return element.get("hidden") is not None or _FOR_READERS.search(element.get("class", "")) is not None


def _and_above(element: etree._Element) -> Iterator[etree._Element]:
    yield element
    yield from element.iterancestors()


def main_heading(headings: Iterable[etree._Element], titles: str, path: str) -> etree._Element | None:
    """The <h1> that shares most words with the page's titles and its address; of equals the first that is in view."""
    wanted = {*plain_words(titles), *(word for word in plain_words(unquote(path)[-200:]) if not word.isdigit())}
    best: tuple[float, etree._Element] | None = None
    for element in islice(headings, _MOST_HEADINGS):
        words = set(plain_words(text_of(element, _LONGEST)))
        if not words:
            continue
        shared = len(words & wanted) - (0.5 * len(words) + 1 if is_hidden(element) else 0.0)
        if best is None or shared > best[0]:
            best = shared, element
    return best[1] if best is not None and best[0] >= 0 else None


def without_site(title: str, host: str, site: str) -> str:
    """The title without the parts that name the site, by its host and its declared name; the title if nothing is left."""
    parts = [part.strip() for part in _SEPARATOR.split(title) if part and part.strip()]
    labels = [
        label
        for label in host.casefold().split(".")
        if len(label) >= _SHORTEST and label not in ("www", "com", "net", "org", "shop")
    ]
    names = {"".join(plain_words(site)), *("".join(plain_words(label)) for label in labels)} - {""}
    kept = [part for part in parts if not _names_site("".join(plain_words(part)), names)]
    if not kept or len(kept) == len(parts):
        return title.strip()
    first, last = title.find(kept[0]), title.rfind(kept[-1]) + len(kept[-1])
    return title[first:last].strip()


def _names_site(part: str, names: set[str]) -> bool:
    return bool(part) and any(
        name in part or (part in name and len(part) >= _SHORTEST) for name in names if len(name) >= _SHORTEST
    )
