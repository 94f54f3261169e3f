"""Keeps a file that a script makes: writes it, or with --check says that it is old."""

import sys
from pathlib import Path


def keep(target: Path, text: str) -> None:
    """Write the file; with --check on the command line, end with 1 if it is not what would be written."""
    if "--check" not in sys.argv[1:]:
        target.write_text(text, "utf-8")
    elif not target.exists() or target.read_text("utf-8") != text:
        sys.exit(f"{target} is not up to date: run python {Path(sys.argv[0]).name}")
