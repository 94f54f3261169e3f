"""Texts as they stand on pages, in many languages: the value that they mean, or none."""

from __future__ import annotations

import pytest

from processors.extraction.extract import extract
from processors.extraction.fields import compile_fields
from tests.cases.answers import is_right
from tests.cases.tables import Row, rows

_TYPES = {"price": "money"}


@pytest.mark.parametrize("row", rows("values.tsv"), ids=str)
def test_the_text_is_read_as_it_is_meant(row: Row) -> None:
    """A field of the column's type, on a page in the row's language, gives what is right and nothing else."""
    kind = _TYPES.get(row["field"], row["field"])
    fields = compile_fields({"f": {"css": "p", "type": kind, "required": False}})
    found = extract(f"<html lang={row['lang']}><p>{row['text']}</p>", "https://shop.example/p/1", fields).get("f")
    assert is_right(row["right"], found), found
