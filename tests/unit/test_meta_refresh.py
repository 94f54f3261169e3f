"""Pages that only say where the page is, told from pages that renew themselves."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.extraction.meta_refresh import HEAD_CHARS, meta_refresh_target, refresh_target, renews

BASE = "http://x/dir/page?q=1"


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("0;url=/real", "http://x/real"),
        ("0; URL='next'", "http://x/dir/next"),
        ('0;url="http://y/a b"', "http://y/a%20b"),
        ("5, url = /real", "http://x/real"),
        (" 0 ; /real ", "http://x/real"),
        ("0 url=/real", "http://x/real"),
        ("1.5;url=/real", "http://x/real"),
        (".5;url=/real", "http://x/real"),
        ("0;url=?id=2&id=1", "http://x/dir/page?id=2&id=1"),
        ("0;url='/a'b", "http://x/a"),
        ("0;url=//cdn.example/x", "http://cdn.example/x"),
        ("0", None),
        ("0;url=#top", "http://x/dir/page?q=1#top"),
        ("0;url=http://[", None),
        ("soon;url=/x", None),
        ("0;", None),
        ("0;url=", None),
        ("", None),
        ("url=/real", None),
        ("-1;url=/real", None),
        ("300;url=/real", None),
        ("99999999999999999999;url=/real", None),
        ("0;url=javascript:alert(1)", None),
        ("0;url=data:text/html,x", None),
        ("0;url=http://a b/", None),
    ],
)
def test_the_content_is_read_as_the_standard_says(content: str, target: str | None) -> None:
    """Seconds, then an address, in the ways in which people write it."""
    assert refresh_target(content, BASE) == target


@pytest.mark.parametrize(
    ("page", "target"),
    [
        ('<meta http-equiv="refresh" content="0;url=/real">', "http://x/real"),
        ("<META CONTENT='0;URL=/real' HTTP-EQUIV=Refresh>", "http://x/real"),
        ('<meta http-equiv=refresh content="0;url=/a?b=1&amp;c=2" />', "http://x/a?b=1&c=2"),
        ('<meta\n http-equiv = "refresh"\n content = "0;url=/real"\n>', "http://x/real"),
        ('<base href="http://y/z/"><meta http-equiv="refresh" content="0;url=real">', "http://y/z/real"),
        ('<meta name="a" content="b>c"><meta http-equiv="refresh" content="0;url=/real">', "http://x/real"),
        ('<title><meta http-equiv="refresh" content="0;url=/t"></title><p>', None),
        ('<script>"<meta http-equiv=refresh content=0;url=/s>"</script>', None),
        ('<noscript><meta http-equiv="refresh" content="0;url=/n"></noscript>', None),
        ('<!-- <meta http-equiv="refresh" content="0;url=/c"> -->', None),
        ('<!-- <meta http-equiv="refresh" content="0;url=/c">', None),
        ('<style><meta http-equiv="refresh" content="0;url=/c">', None),
        ('<script>İİİ"</script><meta http-equiv="refresh" content="0;url=/real">', "http://x/real"),
        ('<meta name="refresh" content="0;url=/real">', None),
        ('<metadata http-equiv="refresh" content="0;url=/real">', None),
        ('<meta http-equiv="content-type" content="text/html">', None),
        ("<h1>http-equiv</h1>", None),
        ("<meta http-equiv", None),
        ("", None),
    ],
)
def test_a_page_is_searched_as_markup(page: str, target: str | None) -> None:
    """A refresh counts where a browser with scripts would see it."""
    assert meta_refresh_target(page, BASE) == target
    assert meta_refresh_target(page.encode(), BASE) == target
    assert meta_refresh_target(b"\xff\xfe" + page.encode("utf-16-le"), BASE) == target


def test_only_the_head_is_searched() -> None:
    """What stands at the end of a long page is no redirect."""
    assert meta_refresh_target(" " * HEAD_CHARS + '<meta http-equiv="refresh" content="0;url=/real">', BASE) is None


@given(
    st.text(max_size=100),
    st.sampled_from(["", '<meta http-equiv="refresh" content="0;url=', "<meta http-equiv=refresh "]),
)
def test_any_page_is_borne(text: str, before: str) -> None:
    """Nothing raises, and a target is an address."""
    target = meta_refresh_target(before + text, BASE)
    assert target is None or target.startswith(("http://", "https://"))


@pytest.mark.parametrize(
    "part", ["<meta ", '<meta a="', "<meta a='", "<!--", "<script>", "<base ", "<meta x>", "<", 'a="', "<meta a = "]
)
def test_no_page_takes_long(part: str) -> None:
    """The head alone is read, and each part of it once."""
    began = time.process_time()
    meta_refresh_target("http-equiv" + part * (8 * HEAD_CHARS // len(part)), BASE)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(("target", "itself"), [(BASE, True), (BASE + "#top", True), ("http://x/dir/page", False)])
def test_a_page_that_renews_itself_is_told_apart(target: str, itself: bool) -> None:
    """Scores, auctions and news renew themselves: they are pages to be read."""
    assert renews(target, BASE) is itself
