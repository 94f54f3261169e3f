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
    "Exit codes: 0 done; 1 not found, or something of what was given is wrong; 2 wrong usage; "
    "3 Kafka can't be reached, or a setting is wrong; 4 the audit diverged, or a verdict failed; "
    "5 no coordinator answered in time; 130 interrupted."
)
