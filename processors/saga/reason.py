"""Reasons, as they are kept: short, and made of characters that every topic can carry."""

from __future__ import annotations

#: A reason stands in replies, states, dead letters and log lines; a state carries one for each step.
LONGEST_REASON = 2_000


def bounded_reason(text: str) -> str:
    """Return a text cut to LONGEST_REASON characters, with half a surrogate pair spelt out: UTF-8 has no bytes for it."""
    kept = text[:LONGEST_REASON]
    if not kept.isascii():
        kept = kept.encode("utf-8", "backslashreplace").decode()
    if len(text) <= LONGEST_REASON and len(kept) <= LONGEST_REASON:
        return kept
    return f"{kept[: LONGEST_REASON - 40]} ... ({len(text)} characters in all)"
