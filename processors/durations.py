"""Durations and sizes as people write them in pipelines and settings: "30s", "1m30s", "7d"; "10MB", "512KiB"."""

from __future__ import annotations

import re
from datetime import timedelta

#: Largest first, the order in which they are written. Milliseconds are Kafka's resolution.
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")


_UNITS_BYTES = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b|)", re.IGNORECASE)


def parse_duration(text: object) -> timedelta:
    """Return the duration that a text such as "1m30s" says; never negative, to the millisecond.

    Units are d, h, m, s and ms, each at most once, the largest first. Anything else raises ValueError, a number
    without a unit too (YAML turns `timeout: 30` into one): seconds and milliseconds are too easily confused to guess.
    """
    written = text.strip() if isinstance(text, str) else ""
    parts = _PART.findall(written)
    units = [unit for _, unit in parts]
    in_order = sorted(set(units), key=list(_UNITS_MS).index)
    if not parts or "".join(number + unit for number, unit in parts) != written or units != in_order:
        raise ValueError(f'{text!r} is not a duration: write for example "30s", "1m30s", "250ms", "2h" or "7d"')
    try:
        return timedelta(milliseconds=round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts)))
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long a duration") from error


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back as this duration, to the millisecond."""
    rest = duration // timedelta(milliseconds=1)
    if rest < 0:
        raise ValueError(f"{duration} is negative: a duration never is")
    parts = []
    for unit, size in _UNITS_MS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: object) -> int:
    """Return the number of bytes that a text such as "10MB" says.

    MB is 1000 x 1000 bytes and MiB is 1024 x 1024; a bare number is bytes. Anything else raises ValueError.
    """
    written = str(text).strip() if isinstance(text, (str, int)) and not isinstance(text, bool) else ""
    match = _SIZE.fullmatch(written)
    if match is None or match[2].lower() not in _UNITS_BYTES:
        raise ValueError(f'{text!r} is not a size: write for example "10MB", "512KiB" or "1048576"')
    return round(float(match[1]) * _UNITS_BYTES[match[2].lower()])
