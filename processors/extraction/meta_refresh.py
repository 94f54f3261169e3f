"""A page that only says where the page is: `<meta http-equiv="refresh">`, and the HTTP header Refresh.

Read by the HTML standard's rules for the content attribute. One pass over the head of the page, in time linear in it.
"""

from __future__ import annotations

import re
from html import unescape

import can_ada

#: Such a page has little else. What stands further down than this is no redirect that anybody meant.
HEAD_CHARS = 64 * 1024
#: A longer wait is a page to be read that renews itself or goes on to the next: a slide show, a live ticker.
LONGEST_WAIT_S = 20

# Comments and elements whose content is no markup, or not for a browser with scripts: a refresh in <noscript> leads to
# the poorer page. Each is skipped from its beginning to its end, so nothing is read twice.
_OPENING = re.compile(r"<!--|<(meta|base|noscript|script|style|template|textarea|title|body)(?=[\s/>])", re.IGNORECASE)
# Rules out most pages: no other value, in lower case, reads as "refresh", not even one with character references.
_MAY_REFRESH = re.compile(rb"http-equiv[^a-z0-9&]*+[&r]")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]{1,64})(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+)))?""")
_LONGEST_TAG = 4_096


def meta_refresh_target(page: bytes | str, base_url: str) -> str | None:
    """Return the address to which a page sends its reader at once, or within LONGEST_WAIT_S; None if it doesn't."""
    head = page[:HEAD_CHARS]
    text = head if isinstance(head, str) else head.decode(_encoding(head), "replace")
    lowered_bytes = text.encode("utf-8", "surrogatepass").lower()
    if not _MAY_REFRESH.search(lowered_bytes):
        return None
    # str.lower() changes the length of some letters, and places have to be those of the text.
    lowered = lowered_bytes.decode("utf-8", "surrogatepass")
    place, base = 0, base_url
    while found := _OPENING.search(text, place):
        name = (found[1] or "!--").lower()
        place = found.end()
        if name in ("meta", "base"):
            attributes, place = _attributes(text, place)
            if name == "base":
                base = _joined(base_url, attributes.get("href", "")) or base_url
            elif attributes.get("http-equiv", "").strip().lower() == "refresh":
                return refresh_target(attributes.get("content", ""), base)
        elif name != "body":
            end = "-->" if name == "!--" else f"</{name}"
            place = lowered.find(end, place)
            if place < 0:
                return None
    return None


def refresh_target(content: str, base_url: str) -> str | None:
    """Return where the content of a refresh leads, as in "0; url=/next"; None for none, for a reload, or for later."""
    rest = content[:HEAD_CHARS].strip()
    digits = len(rest) - len(rest.lstrip("0123456789"))
    if not digits and not rest.startswith("."):
        return None
    if int(rest[:digits][:9] or "0") > LONGEST_WAIT_S:
        return None
    rest = rest[digits:].lstrip("0123456789.").lstrip()
    if rest[:1] in (";", ","):
        rest = rest[1:].lstrip()
    if rest[:3].lower() == "url" and rest[3:].lstrip().startswith("="):
        rest = rest[3:].lstrip()[1:].lstrip()
    if rest[:1] in ("'", '"'):
        rest = rest[1:].partition(rest[0])[0]
    return _joined(base_url, rest) if rest else None


def renews(target: str, page_url: str) -> bool:
    """True if a page sends its reader to itself: it is a page to be read, unless it has set a cookie meanwhile."""
    return target.partition("#")[0] == (_joined(page_url, "") or "").partition("#")[0]


def _attributes(text: str, start: int) -> tuple[dict[str, str], int]:
    """Return a tag's attributes, and where it ends."""
    found: dict[str, str] = {}
    place, end = start, min(len(text), start + _LONGEST_TAG)
    while place < end and text[place] != ">":
        attribute = _ATTRIBUTE.match(text, place, end)
        if attribute is None:
            place += 1
            continue
        place = attribute.end()
        value = next((one for one in attribute.groups()[1:] if one is not None), "")
        # The first of two with the same name counts, as in browsers.
        found.setdefault(attribute[1].lower(), unescape(value))
    return found, place


def _joined(base: str, reference: str) -> str | None:
    try:
        joined = can_ada.parse(base) + reference
    except (ValueError, TypeError):
        return None
    return joined.href if joined.protocol in ("http:", "https:") else None


def _encoding(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    return "utf-8"
