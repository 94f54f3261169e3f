"""The command `scrapesaga`: submit, look, mend, audit, and run the engine."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process; leaves with its exit code."""
    # Imported late, so that a worker which imports a sibling of this package doesn't load all of the command line.
    from processors.cli.app import app

    app(prog_name="scrapesaga")
