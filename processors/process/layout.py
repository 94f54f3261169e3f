"""Which roles share a process: a process each, all in one, or as one says."""

from __future__ import annotations

from collections.abc import Sequence

from processors.errors import ConfigurationError

EACH, ONE = "each", "one"

#: The roles of each process.
Layout = tuple[tuple[str, ...], ...]


def read_layout(text: str, roles: Sequence[str]) -> Layout:
    """Return the processes that a text such as `each`, `one` or `intake+coordinator,fetch+parse,auditor` asks for.

    A comma parts processes, a plus the roles of one. `one` stands for all of `roles` that are not named otherwise; `each`
    for a process of each of them, which they get without either word, too. Raises ConfigurationError for a role that is
    named twice.
    """
    groups = [tuple(filter(None, map(str.strip, group.split("+")))) for group in text.split(",")]
    words = [word for group in groups for word in group]
    rests = [word for word in words if word in (EACH, ONE)]
    twice = sorted({word for word in words if words.count(word) > 1}) or (rests if len(rests) > 1 else [])
    if twice:
        raise ConfigurationError(f"processes {text!r}: {' and '.join(twice)} in two places; write each role once")
    if any(EACH in group and len(group) > 1 for group in groups):
        raise ConfigurationError(
            f"processes {text!r}: {EACH} can't be joined with other roles; replace the plus by a comma"
        )
    rest = tuple(role for role in roles if role not in words)
    layout: list[tuple[str, ...]] = []
    for group in groups if rests else (*groups, (EACH,)):
        if group == (EACH,):
            layout += ((role,) for role in rest)
            continue
        whole = tuple(role for word in group for role in (rest if word == ONE else (word,)))
        layout += (whole,) if whole else ()
    return tuple(layout)


def process_name(roles: Sequence[str]) -> str:
    """Return a name for the process of these roles: that of its role, or the first with how many more there are."""
    return "+".join(roles) if len(roles) <= 2 else f"{roles[0]}+{len(roles) - 1}"
