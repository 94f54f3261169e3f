"""Every pattern that sees what strangers wrote takes linear time, or only ever sees short texts."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import time
from collections.abc import Iterator, Sequence
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import processors.extraction
import processors.http
from processors.extraction.scripted import Keys

#: Modules outside of the two packages whose patterns see foreign text.
ALSO = ("processors.observability.log_format", "processors.redaction", "schemas.record_values")
#: Patterns that are given no longer texts, by the code beside them.
SHORT = {
    "AT_CURRENCY": 300,
    "ANYWHERE": 300,
    "_NUMBER": 300,
    "SKU_LABEL": 300,
    "OWN_NUMBER_LABEL": 300,
    "GTIN_LABEL": 300,
    "BRAND_LABEL": 300,
    "AROUND_BRAND": 2_000,
    "_CODE": 300,
    "_NOT_STOCK": 400,
    "_WORDS": 400,
}
#: Patterns that are only tried at one place of a text, by match() or fullmatch().
ANCHORED = ("_UP_TO_CROWDED", "_BETWEEN_DOCUMENTS", "_CONTENT", "_CENTS")
#: Patterns that see the expressions of a pipeline's author, once, when it is loaded.
OF_AUTHORS = ("_CALL", "_PREFIX", "_LITERAL")
# They take minutes, and some patterns of the product rules are not linear yet: `make fuzz` shows which.
pytestmark = pytest.mark.skipif("SCRAPESAGA_TEST_FUZZ" not in os.environ, reason="minutes: make fuzz runs it")

SMALL, FACTOR, MOST_GROWTH = 1_500, 4, 9.0
TICK_S = 0.004
MOST_SHORT_S = 0.02
# What pages are full of, for patterns whose own letters are not what slows them down.
FILLS = (
    " ",
    "\n",
    "a",
    "A",
    "1",
    "-",
    ".",
    "a.",
    "1.",
    "1 ",
    "A$",
    "a ",
    '"',
    "\\",
    "<",
    "<a ",
    "://",
    "/",
    "&a",
    "é",
    "價",
)


def _modules() -> Iterator[str]:
    for package in (processors.extraction, processors.http):
        yield from (f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__))
    yield from ALSO


def _patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    for module in _modules():
        for name, value in vars(importlib.import_module(module)).items():
            for pattern in _within(value):
                yield f"{module}.{name}", pattern


def _within(value: object) -> Iterator[re.Pattern[Any]]:
    """The patterns in a constant: itself, those in a tuple, those of scripts' keys."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, Keys):
        yield from (pattern for _, pattern in value.patterns)
    elif isinstance(value, tuple):
        for item in value:
            yield from _within(item)


def _own_name(name: str) -> str:
    return name.partition(" ")[0].rpartition(".")[2]


PATTERNS = {
    f"{name} {at}": pattern
    for at, (name, pattern) in enumerate(dict.fromkeys(_patterns()))
    if _own_name(name) not in OF_AUTHORS
}


def _example(parsed: Sequence[Any]) -> str:
    """A text that the pattern, or most of it, matches: of each choice the first, of each repetition two."""
    parts = []
    for op, argument in parsed:
        if op is _constants.LITERAL:
            parts.append(chr(argument))
        elif op is _constants.IN:
            parts.append(_one_of(argument))
        elif op is _constants.ANY or op is _constants.NOT_LITERAL:
            parts.append("b")
        elif op is _constants.BRANCH:
            parts.append(_example(argument[1][0]))
        elif op in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            low, high, inner = argument
            parts.append(_example(inner) * min(max(low, 2), high, 50))
        elif op is _constants.SUBPATTERN:
            parts.append(_example(argument[3]))
        elif op is _constants.ATOMIC_GROUP:
            parts.append(_example(argument))
    return "".join(parts)


def _one_of(choices: Sequence[Any]) -> str:
    kind, argument = choices[0]
    if kind is _constants.LITERAL:
        return chr(argument)
    if kind is _constants.RANGE:
        return chr(argument[0])
    if kind is _constants.CATEGORY:
        return (
            {"DIGIT": "1", "SPACE": " ", "WORD": "a"}.get(str(argument).rpartition("_")[2], "-")
            if "NOT" not in str(argument)
            else "-"
        )
    return "b"


def _hostile(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    """Texts that nearly match: the example with each of its pieces repeated without end, and the usual fillings after it."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    example = _example(
        _parser.parse(source, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags)
    )[:60]
    pieces = dict.fromkeys(
        [example[at : at + length] for at in range(0, len(example), max(1, len(example) // 8)) for length in (1, 4)]
        + [example]
    )
    for piece in pieces:
        if piece:
            at = example.find(piece)
            yield example[:at] + piece * (size // len(piece)) + "\x01"
    for fill in FILLS:
        yield fill * (size // len(fill)) + "\x01"
        yield example[: len(example) // 2] + fill * (size // len(fill)) + "\x01"


def _search_s(name: str, text: str) -> float:
    pattern = PATTERNS[name]
    given: Any = text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
    began = time.process_time()
    if _own_name(name) in ANCHORED:
        pattern.match(given)
    else:
        for _ in pattern.finditer(given):
            pass
    return time.process_time() - began


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_takes_the_square_of_a_text(name: str) -> None:
    """Four times the text takes four times the time; a pattern for short texts is quick on the longest of them."""
    pattern = PATTERNS[name]
    longest = SHORT.get(_own_name(name))
    if longest is not None:
        for text in _hostile(pattern, longest):
            assert min(_search_s(name, text[:longest]) for _ in range(3)) < MOST_SHORT_S, text[:80]
        return
    for small, large in zip(_hostile(pattern, SMALL), _hostile(pattern, SMALL * FACTOR), strict=True):
        for _ in range(4):
            first, second = _search_s(name, small), _search_s(name, large)
            if second <= MOST_GROWTH * max(first, TICK_S / FACTOR):
                break
        else:
            pytest.fail(f"{small[:80]!r}: {first:.4f} CPU seconds, for {FACTOR} times as long a text {second:.4f}")


def test_the_patterns_are_found() -> None:
    """The walk sees constants, tuples of patterns, and the keys of scripts."""
    found = {name.partition(" ")[0].removeprefix("processors.") for name in PATTERNS}
    assert {"extraction.jsonld._COMMENT", "extraction.budget._UP_TO_CROWDED", "extraction.availability._WORDS"} <= found
    assert {"extraction.product_codes._GTIN_SCRIPTED", "http.request._HEADER_NAME"} <= found


@pytest.mark.parametrize("pattern", [r"^\s*//.*$", r"(a+)+$", r"\b[a-z][a-z.]*://", r"a*a*b", r"(?:x|x)*y"])
def test_slow_patterns_are_noticed(pattern: str) -> None:
    """The texts made for a pattern show that it is slow, if it is."""
    slow = re.compile(pattern, re.MULTILINE)
    PATTERNS["slow"] = slow
    try:
        with pytest.raises(pytest.fail.Exception):
            test_no_pattern_takes_the_square_of_a_text("slow")
    finally:
        del PATTERNS["slow"]
