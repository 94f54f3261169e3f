"""Sizes as people write them in pipelines and settings: "10MB", "512KiB"."""

from __future__ import annotations

import re

_UNITS = {
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


def parse_size(text: object) -> int:
    """Return the number of bytes that a text such as "10MB" says.

    MB is 1000 x 1000 bytes and MiB is 1024 x 1024; a bare number is bytes. Anything else raises ValueError.
    """
    written = str(text).strip() if isinstance(text, (str, int)) and not isinstance(text, bool) else ""
    match = _SIZE.fullmatch(written)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f'{text!r} is no size: write for example "10MB", "512KiB" or "1048576"')
    return round(float(match[1]) * _UNITS[match[2].lower()])
