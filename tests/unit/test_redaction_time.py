"""Secrets are hidden in whatever a server says, in time that grows with the text alone."""

from __future__ import annotations

import time

import pytest

from processors.http.secrets import Auth, HeaderAuth
from processors.observability.log_format import redacted
from processors.redaction import REDACTED

HIDE = Auth(header=HeaderAuth("X-Key", "key")).headers(lambda _: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab/+").redact_text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("x aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab/+ y", f"x {REDACTED} y"),
        ("x=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab%2f%2B&y=%2f", f"x={REDACTED}&y=%2f"),
        ("%61" * 31 + "%62/%2b" + "%", f"{REDACTED}%"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab/+" * 2 + "%20é\udc80", f"{REDACTED}{REDACTED}%20é\udc80"),
        ("100% ab%2F", "100% ab%2F"),
    ],
)
def test_a_secret_is_hidden_in_every_mixture_of_escapes(text: str, hidden: str) -> None:
    """Any of its characters may be percent-encoded, in either case; the rest of the text stays as it was."""
    assert HIDE(text) == hidden


@pytest.mark.parametrize("piece", ["a", "%61", "a%61", "%", "%6", "%2", "a.", "://", "a://", "?", "x://a?"])
@pytest.mark.parametrize("hide", [HIDE, redacted], ids=["credentials", "log lines"])
def test_hiding_takes_time_in_proportion_to_the_text(piece: str, hide: object) -> None:
    """A header of half a megabyte that nearly holds a secret, or an address, takes no longer than any other."""
    assert callable(hide)
    text = piece * (500_000 // len(piece))
    began = time.process_time()
    hide(text)
    assert time.process_time() - began < 1.0


def test_queries_and_passwords_of_addresses_are_no_part_of_a_log_line() -> None:
    """Whatever the scheme, and however many addresses there are."""
    line = "from postgres://u:pw@db/x?sslkey=1 to 'https://a.example/b?c=d#e' and http://plain.example/."
    assert redacted(line) == (
        f"from postgres://{REDACTED}@db/x?{REDACTED} to 'https://a.example/b?{REDACTED}' and http://plain.example/."
    )
