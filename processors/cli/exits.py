"""The exit codes of commands, as `scrapesaga --help` lists them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ends."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNUSABLE = 3
    DIVERGED = 4
    UNANSWERED = 5


EPILOG = (
    "Exit codes: 0 success; 1 not found, or an input was refused; 2 wrong usage; "
    "3 Kafka can't be reached, or a setting is wrong; 4 an audit or a verdict found a violation; "
    "5 no coordinator answered in time; 130 interrupted."
)
