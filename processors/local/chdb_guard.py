"""Refuses the few statements that reach files past the engine's own access control.

The engine as a library trusts its program: the function `file`, INTO OUTFILE and ATTACH ask for no right. The kernel
keeps the process to its folder where it can (see `confine`); this holds everywhere, and says what is wrong.
"""

from __future__ import annotations

import re

# Functions that read files or start programs, and the names of disks outside of the folder.
_FUNCTIONS = frozenset({"file", "disk", "executable", "executablepool", "eval", "python", "filesystem", "filecluster"})
# Anything else is let through unread: most statements are inserts of megabytes.
_WORTH_A_LOOK = re.compile(
    rb"\\|\b(?:" + b"|".join(name.encode() for name in sorted(_FUNCTIONS)) + rb"|outfile|infile|attach)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|\#[!\ ][^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^'\\]|\\.|'')*')
    |(?P<typeset>‘[^’]*’|“[^”]*”)
    |(?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
    |(?P<word>[^\W\d]\w*)
    |(?P<other>\w+|.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# Functions that take a function: arrayMap(f, ...), mapApply(f, ...).
_TAKES_FUNCTION = re.compile(r"[`\"]?(?:array|map)", re.IGNORECASE)


class StatementRefused(ValueError):
    """The statement would leave the engine; the message says by what."""


def check(statement: bytes) -> None:
    """Raise StatementRefused for a statement that would read or write files of the machine, or start programs."""
    if _WORTH_A_LOOK.search(statement) is None:
        return
    text = statement.decode("utf-8", "surrogateescape")
    tokens = [(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(text) if found.lastgroup != "skip"]
    for at, (kind, token) in enumerate(tokens):
        if kind not in ("word", "quoted"):
            continue
        before, after = _value(tokens, at - 1), _value(tokens, at + 1)
        name = token[1:-1] if kind == "quoted" else token
        if kind == "quoted" and "\\" in name and after == "(":
            raise StatementRefused("a function's name is not written with a backslash here: use its plain name")
        if name.lower() in _FUNCTIONS and _is_called(tokens, at, before, after):
            raise StatementRefused(f"{name} is turned off here: this engine keeps to its own tables")
        if kind == "word":
            _check_clause(name.upper(), before, tokens, at)


def _is_called(tokens: list[tuple[str, str]], at: int, before: str, after: str) -> bool:
    """Tell whether the name stands for a function: f(...), APPLY f, APPLY(f), arrayMap(f, ...)."""
    if after == "(" or before == "APPLY":
        return True
    if before != "(":
        return False
    outer = _value(tokens, at - 2)
    return outer == "APPLY" or (after == "," and _TAKES_FUNCTION.match(outer) is not None)


def _check_clause(word: str, before: str, tokens: list[tuple[str, str]], at: int) -> None:
    if (word, before) in (("OUTFILE", "INTO"), ("INFILE", "FROM")):
        raise StatementRefused(f"{before} {word} is turned off here: send and receive the rows by HTTP")
    if word == "ATTACH" and (at == 0 or before == ";"):
        raise StatementRefused("ATTACH is turned off here: CREATE the table or the database")


def _value(tokens: list[tuple[str, str]], at: int) -> str:
    return tokens[at][1].upper() if 0 <= at < len(tokens) else ""
