"""The address of the picture that an `<img>` shows in the end, though a script may put it there later."""

from __future__ import annotations

import re

from lxml import etree

_LAZY = (
    *("data-src", "data-original", "data-lazy-src", "data-lazy", "data-image", "data-large_image", "data-zoom-image"),
    *("data-full", "data-echo", "data-hi-res-src", "data-url"),
)
_LAZY_SETS = ("data-srcset", "data-lazy-srcset", "srcset")
_STAND_IN = re.compile(
    r"^data:|^about:|placeholder|blank\.|spacer|loading|lazy|transparent|1x1|pixel\.|grey\.|dummy", re.IGNORECASE
)


def image_address(element: etree._Element) -> str:
    """The address, or nothing if the element only has a stand-in."""
    own = (element.get("src") or "").strip()
    if own and not _STAND_IN.search(own):
        return own
    for name in _LAZY:
        if (value := (element.get(name) or "").strip()) and not _STAND_IN.search(value) and not value.startswith("{"):
            return value
    return next((best for name in _LAZY_SETS if (best := largest(element.get(name) or ""))), "")


def largest(srcset: str) -> str:
    """The address of the widest picture of a `srcset`."""
    best = (0.0, "")
    for candidate in re.split(r",\s+|,(?=https?:|//)", srcset[:4000]):
        address, _, size = candidate.strip().partition(" ")
        match = re.fullmatch(r"(\d+(?:\.\d+)?)[wx]", size.strip())
        width = float(match[1]) if match else 1.0
        if address and not _STAND_IN.search(address) and width > best[0]:
            best = (width, address)
    return best[1]
