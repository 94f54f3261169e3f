"""The pages that people read, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md", "deploy/helm/*/README.md", "deploy/*/README.md")
    for path in ROOT.glob(pattern)
)
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) *-->\n)?```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN = re.compile(r"`((?:scrapesaga|make|helm|python) [^`\n]+)`")
_INDENTED = re.compile(r"^    ((?:scrapesaga|make) [^\n]+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fence. `reason` says why it can't be run, from `<!-- not run: REASON -->` in the line above it."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """Yield the fences of all pages, in order."""
    for path in PAGES:
        page = path.read_text("utf-8")
        for found in _FENCE.finditer(page):
            line = 1 + page.count("\n", 0, found.start("language"))
            yield Block(str(path.relative_to(ROOT)), line, found["language"].strip(), found["text"], found["reason"])


def spans() -> Iterator[tuple[str, str]]:
    """Yield the page and the text of each command in a sentence or an indented line."""
    for path in PAGES:
        # What happened before may name commands of before; cli.md is made from the commands, and has a test of its own.
        if path.name not in ("CHANGELOG.md", "cli.md"):
            page = _FENCE.sub("", path.read_text("utf-8"))
            for pattern in (_SPAN, _INDENTED):
                yield from ((str(path.relative_to(ROOT)), found) for found in pattern.findall(page))
