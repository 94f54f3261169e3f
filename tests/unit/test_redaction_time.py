"""Secrets are hidden in whatever a server says, in time that grows with the text alone."""

from __future__ import annotations

import time

import pytest

from processors.http.secrets import Credentials
from processors.observability.log_format import redacted
from processors.redaction import REDACTED

HIDE = Credentials({}, ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab/+",)).redact_text


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
