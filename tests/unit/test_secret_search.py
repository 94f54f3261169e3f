"""A secret is found in every spelling that a server may use, nothing else is touched, and the time is in proportion."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.redaction.secret_search import SecretSearch, weakness
from tests.canary import SPELLINGS, found_in

SECRET = 'sk/live+7%41&lt;Zé "\\u0041 x'
PLAIN = "tk_9fQ2-Vb7.Lm4"


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_is_found(spelling: str, secret: str) -> None:
    """What is left has *** in it, and of the secret no more than what base64 mixes with its neighbours."""
    echoed = SPELLINGS[spelling](secret)
    text = SecretSearch([secret]).redact_text(f"<p title='{echoed}'>2024 &amp; %20 \\n</p>")
    assert "***" in text
    assert text.startswith("<p title='") and text.endswith("'>2024 &amp; %20 \\n</p>")
    assert len(text) - len("<p title=''>2024 &amp; %20 \\n</p>") <= len("&quot;***&quot;")


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_canarys_own_search_knows_each_spelling(spelling: str, secret: str) -> None:
    """What the tests look for canaries with is written otherwise than what hides them, and finds what they plant."""
    assert found_in(f"<p title='{SPELLINGS[spelling](secret)}'>".encode(), secret)
    assert not found_in(b"<p title='***'> 2024 %41 &amp;", secret)


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be", "utf-16", "latin-1", "utf-8"])
@pytest.mark.parametrize("secret", [SECRET, PLAIN])
def test_each_encoding_of_a_page_is_searched(coding: str, secret: str) -> None:
    """UTF-16 has a NUL between the letters."""
    page = f"<p>{secret} Preis 5</p>".encode(coding)
    assert SecretSearch([secret]).redact(page).decode(coding) == "<p>*** Preis 5</p>"


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=300)
def test_what_is_around_a_secret_stays(before: str, after: str) -> None:
    """Whatever it is: only the secret is replaced, but for an escape that begins in front of it."""
    if PLAIN in before + after or before.endswith(("\\", "&", "%")):
        return
    assert SecretSearch([PLAIN]).redact_text(before + PLAIN + after) == (before + "***" + after)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_without_the_secret_are_the_very_same(data: bytes) -> None:
    """A page that has no secret in it is archived as served."""
    assert SecretSearch([SECRET, PLAIN]).redact(data) is data


@pytest.mark.parametrize(
    "secret",
    ["", "2024", "shop", "hunter2", "password", "Password", "administrator", "20241128", "19.99", "password1", "P@ssw0rd",
     "available", "aaaaaaaaaaaa", "change-me", "qwerty123"],
)  # fmt: skip
def test_short_and_common_secrets_are_weak_and_not_searched_for(secret: str) -> None:
    """A page that has such a word has it for reasons of its own."""
    assert weakness(secret) is not None
    page = f"<h1>{secret} edition</h1>".encode()
    assert SecretSearch([secret, PLAIN]).redact(page) is page


@pytest.mark.parametrize(
    "secret", [SECRET, PLAIN, "pa55word", "3f2a9c7e", "AKIA7QX2M4ZZ9PLK", "correct-horse", "123456789012"]
)
def test_good_secrets_are_searched_for(secret: str) -> None:
    """Eight characters that are no word are enough."""
    assert weakness(secret) is None


@pytest.mark.parametrize(
    "part",
    [b"%41", b"%25", b"%41a", b"&#65;", b"&", b"&amp;", b"\\", b"\\u0041", b"\\x41a", b"\0a", b"\0", b"tk_9fQ2-Vb7.Lm", b"a",
     b"&#x0000041", b"\\u{41}", PLAIN.encode(), b"".join(b"%%%02x" % b for b in PLAIN.encode()), b"dGtfOWZRMi1W"],
)  # fmt: skip
def test_the_time_is_in_proportion(part: bytes) -> None:
    """Eight times as much text takes about eight times as long, whatever it is: a site chooses it."""
    search = SecretSearch([PLAIN, SECRET])

    def seconds(size: int) -> float:
        data = part * (size // len(part))
        spent = []
        for _ in range(3):
            began = time.process_time()
            search.redact(data)
            spent.append(time.process_time() - began)
        return min(spent)

    assert seconds(480_000) < 24 * max(seconds(60_000), 0.000_5)
