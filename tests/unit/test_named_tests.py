"""Documents that name the tests which show what they promise: every test that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: `tests/unit/test_a.py::test_b`, and short for what follows in the same row: `test_c.py::test_d`, `::test_e`.
NAMED = re.compile(r"`((?:tests/\w+/)?)((?:test_\w+\.py)?)((?:::test_\w+)?)`")


def named(document: str) -> list[tuple[str, str]]:
    """Return the tests that a document names: file and function, which may be empty."""
    found = []
    for line in (ROOT / "docs" / document).read_text("utf-8").splitlines():
        folder = file = ""
        for match in NAMED.finditer(line):
            if not any(match.groups()):
                continue
            folder, file = match[1] or folder, match[2] or file
            found.append((folder + file, match[3].removeprefix("::")))
    return found


@pytest.mark.parametrize("document", ["threat-model.md", "guarantees.md"])
def test_every_test_that_a_document_names_is_there(document: str) -> None:
    """A promise that names a test nobody has is worse than one that names none."""
    tests = named(document)
    assert len(tests) > 8
    for file, function in tests:
        path = ROOT / file
        assert path.is_file(), f"{document} names {file}"
        assert not function or f"def {function}(" in path.read_text("utf-8"), f"{document} names {file}::{function}"
