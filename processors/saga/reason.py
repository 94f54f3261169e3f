"""Reasons as they are stored: short, and with characters that can be encoded."""

from __future__ import annotations

#: Replies, states, dead letters and log lines contain reasons; a state has one for each step.
LONGEST_REASON = 2_000


def bounded_reason(text: str) -> str:
    """Return a text cut to LONGEST_REASON characters, with lone surrogates escaped, because UTF-8 can't encode them."""
    kept = text[:LONGEST_REASON]
    if not kept.isascii():
        kept = kept.encode("utf-8", "backslashreplace").decode()
    if len(text) <= LONGEST_REASON and len(kept) <= LONGEST_REASON:
        return kept
    return f"{kept[: LONGEST_REASON - 40]} ... ({len(text)} characters in all)"
