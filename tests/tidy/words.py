"""Words that the glossary has replaced: none comes back as an identifier, or in the prose of docs, comments and messages.

`words.txt` has a line for each: where it is looked for, the word, and what the field says.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.tidy.findings import Finding

_LIST = Path(__file__).with_name("words.txt")
_NAME = re.compile(r"[A-Za-z_]\w*")
# ReplyBatcher, replyBatcher, reply_batcher and REPLY_BATCHER have the parts reply and batcher.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


class Words(NamedTuple):
    """What must not be said, each with what to say instead."""

    identifiers: dict[str, str]
    """Whole names, as they are written."""
    parts: dict[str, str]
    """Parts of names, in lower case."""
    prose: dict[str, str]
    """Words in sentences, in lower case; of several words, in a row."""


def read_words() -> Words:
    """Read the list. Raises ValueError for a line that is not understood."""
    words = Words({}, {}, {})
    tables = {"identifier": words.identifiers, "part": words.parts, "prose": words.prose}
    for line in _LIST.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        where, word, instead = (cell.strip() for cell in line.split("|"))
        tables[where][word if where == "identifier" else word.lower()] = instead
    return words


def check_python(path: str, text: str, words: Words) -> Iterator[Finding]:
    """Yield the words in a module's names, and in its comments and texts."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield from _name(path, token.string, token.start[0], words)
        elif token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from _prose(path, token.string, token.start[0], words)


def check_document(path: str, text: str, words: Words) -> Iterator[Finding]:
    """Yield the words in a page's sentences; its code is checked where the code is."""
    without_code = _CODE.sub(lambda found: "\n" * found[0].count("\n"), text)
    yield from _prose(path, without_code, 1, words)


def _name(path: str, name: str, line: int, words: Words) -> Iterator[Finding]:
    if name in words.identifiers:
        yield Finding("word", f"{path}:{name}", f"is not the project's word: say {words.identifiers[name]}", line)
        return
    for part in _PART.findall(name):
        if part.lower() in words.parts:
            says = f"holds {part.lower()!r}: say {words.parts[part.lower()]}"
            yield Finding("word", f"{path}:{name}", says, line)


def _prose(path: str, text: str, first: int, words: Words) -> Iterator[Finding]:
    for word, instead in words.prose.items():
        for found in re.finditer(rf"\b{re.escape(word)}\b", text, re.IGNORECASE):
            line = first + text.count("\n", 0, found.start())
            yield Finding("word", f"{path}:{word}", f"is not the project's word: say {instead}", line)
