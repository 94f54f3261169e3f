"""Puts tables that a run made into a document, between the markers that name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class MarkerMissing(Exception):
    """The document has no place for this table."""


def put_table(path: str, name: str, lines: Sequence[str]) -> None:
    """Replace what lies between `<!-- name -->` and `<!-- /name -->` in a file. Raises MarkerMissing."""
    place = Path(path)
    text = place.read_text("utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise MarkerMissing(f"{path} needs the lines {begin} and {end}")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    place.write_text("\n".join((head + begin, *lines, end + tail)), "utf-8")


def table_rows(path: Path, name: str) -> list[str]:
    """Return the lines of the table between the markers that name it. Raises MarkerMissing."""
    text = path.read_text("utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise MarkerMissing(f"{path} needs the lines {begin} and {end}")
    return [line for line in text.partition(begin)[2].partition(end)[0].splitlines() if line.startswith("|")]
