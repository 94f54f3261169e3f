"""Pages that only send a browser on: `<meta http-equiv="refresh" content="0; url=/there">`."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urldefrag, urljoin, urlsplit

# Where a page is not so much sent on as renewed: scores, auctions, news.
_LONGEST_DELAY_S = 10
# A page that sends on says so in its head.
_FIRST_CHARACTERS = 64 * 1024
_LONGEST_ADDRESS = 8_192
# What is in these is text, or is for others than a browser that runs scripts.
_PASSED_OVER = "(?i:script|style|title|textarea|noscript|template|xmp|iframe|noembed|noframes)"
# Comments and elements that are passed over whole, then tags with their attributes; each character is looked at once.
_MARKUP = re.compile(
    r"<!--(?:[^-]++|-(?!->))*+|"
    rf"<({_PASSED_OVER})(?=[\s/>])(?:[^<]++|<(?!/\1))*+|"
    r"""<(?P<tag>meta|base)(?=[\s/>])(?P<attributes>(?:[^>"']++|"[^"]*+"?+|'[^']*+'?+)*+)""",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""([^\s/>"'=]++)(?:\s*+=\s*+(?:"([^"]*+)|'([^']*+)|([^\s>"'][^\s>]*+)))?+""")
_CONTENT = re.compile(
    r"""\s*+(\d{1,9}+)[\d.]*+(?:\s*+[;,]\s*+|\s++)(?:url\s*+=\s*+)?+(?:"([^"]*+)|'([^']*+)|([^"'\s].*+))""",
    re.IGNORECASE | re.DOTALL,
)


def refresh_target(html: str, url: str) -> str | None:
    """The address that the page sends a browser on to at once or within seconds, or None; as the HTML standard reads it.

    A page that renews itself sends nowhere. `url` is the page's own address. Takes linear time; follow with the same
    bounds and checks as a redirect.
    """
    first = html[:_FIRST_CHARACTERS]
    if "refresh" not in first.lower():
        return None
    base = url
    for found in _MARKUP.finditer(first):
        if found["tag"] is None:
            continue
        given = _attributes(found["attributes"])
        if found["tag"].lower() == "base" and base == url and "href" in given:
            base = _joined(url, given["href"]) or url
        elif given.get("http-equiv", "").strip().lower() == "refresh" and (link := _link(given.get("content", ""))):
            target = _joined(base, link)
            return target if target and urldefrag(target)[0] != urldefrag(url)[0] else None
    return None


def _attributes(text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(text):
        given.setdefault(name.lower(), unescape("".join(values)))
    return given


def _link(content: str) -> str | None:
    found = _CONTENT.match(content[:_LONGEST_ADDRESS])
    if found is None or int(found[1]) > _LONGEST_DELAY_S:
        return None
    return (found[2] or found[3] or found[4] or "").strip()


def _joined(base: str, link: str) -> str | None:
    try:
        target = urljoin(base, link.strip())
        return target if urlsplit(target).scheme in ("http", "https") else None
    except ValueError:
        return None
