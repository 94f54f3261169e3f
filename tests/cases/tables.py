"""Tables of cases: rows of tab-separated columns under a heading, in the project's own folder and in the one of CASES."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

OWN = Path(__file__).parent / "own"


@dataclass(frozen=True, slots=True)
class Row:
    """One row, its cells by the heading's names; `folder` holds the files that it names."""

    folder: Path
    number: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def __str__(self) -> str:
        """What a test of this row is called."""
        first = list(self.cells.values())[:3]
        return f"{'own' if self.folder == OWN else 'given'}:{self.number}:{' '.join(first)}"[:90]


def rows(table: str) -> list[Row]:
    """The rows of `table` (a file's name), the project's own first; those of CASES only where that folder has it."""
    folders = [OWN, Path(os.environ["CASES"])] if os.environ.get("CASES") else [OWN]
    return [row for folder in folders if (folder / table).is_file() for row in _read(folder, table)]


def _read(folder: Path, table: str) -> list[Row]:
    head, *lines = (folder / table).read_text("utf-8").splitlines()
    names = head.split("\t")
    return [
        Row(folder, number, dict(zip(names, line.split("\t"), strict=False)))
        for number, line in enumerate(lines, 2)
        if line.strip()
    ]
