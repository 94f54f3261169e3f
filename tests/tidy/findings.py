"""What a lint says, and what it lets pass: findings, and the exceptions of allowed.toml, each with its reason."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ALLOWED = Path(__file__).with_name("allowed.toml")


class Finding(NamedTuple):
    """One thing that a rule found. A rule with a size gives it, so that an exception can hold it down."""

    rule: str
    where: str
    """The path, and after a colon the name within it: what an exception is written for."""
    says: str
    line: int = 0
    size: int = 0
    fails: bool = True
    """A warning is counted and listed on demand."""

    def __str__(self) -> str:
        path, _, name = self.where.partition(":")
        place = f"{path}:{self.line}" if self.line else path
        return f"{place}: {self.rule}: {name + ' ' if name else ''}{self.says}"


class Allowed:
    """The exceptions by rule and place. One that nothing needs any more is an error: the list only shrinks."""

    def __init__(self, tables: Mapping[str, Mapping[str, object]]) -> None:
        self._sizes: dict[tuple[str, str], int] = {}
        for rule, entries in tables.items():
            for where, entry in entries.items():
                about = entry if isinstance(entry, dict) else {"why": entry}
                why, size = about.get("why"), about.get("size", 0)
                if not isinstance(why, str) or not why or not isinstance(size, int):
                    raise ValueError(f"{ALLOWED.name}: [{rule}] {where} has to say why, and a size as a number")
                self._sizes[rule, where] = size

    @classmethod
    def read(cls) -> Allowed:
        """Read allowed.toml."""
        return cls(tomllib.loads(ALLOWED.read_text("utf-8")))

    def remaining(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield what no exception lets pass, then the exceptions that are too wide or not needed."""
        used: dict[tuple[str, str], int] = {}
        for found in findings:
            key = self._key(found)
            if not found.fails or key is None:
                yield found
                continue
            used[key] = found.size
            if found.size > self._sizes[key]:
                yield found._replace(says=f"{found.says}; {ALLOWED.name} allows {self._sizes[key]}")
        for (rule, where), size in self._sizes.items():
            if (rule, where) not in used:
                yield Finding(rule, where, f"needs no exception any more: take it out of {ALLOWED.name}")
            elif size > used[rule, where] + 20:
                yield Finding(rule, where, f"has shrunk to {used[rule, where]}: write that into {ALLOWED.name}")

    def _key(self, found: Finding) -> tuple[str, str] | None:
        """Return the exception that lets a finding pass; a star in one stands for anything."""
        return next((key for key in self._sizes if key[0] == found.rule and fnmatchcase(found.where, key[1])), None)
