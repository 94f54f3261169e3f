"""A page that only sends browsers on is a redirect."""

from __future__ import annotations

import pytest

from processors.extraction.refresh import refresh_target

URL = "https://shop.example/a/b?c=1"


def target(content: str) -> str | None:
    """Where a page with a refresh of this content sends a browser."""
    return refresh_target(f'<html><head><META name=x HTTP-EQUIV="Refresh" content="{content}"></head>', URL)


@pytest.mark.parametrize(
    ("content", "there"),
    [
        ("0;url=/real", "https://shop.example/real"),
        ("0; URL='/x y'", "https://shop.example/x y"),
        ("5,url=/q?a=1&amp;b=2", "https://shop.example/q?a=1&b=2"),
        ("0 next", "https://shop.example/a/next"),
        ("0;/plain", "https://shop.example/plain"),
        (" 3.5 ; Url = http://other.example/", "http://other.example/"),
        ("0; url=//cdn.example/x", "https://cdn.example/x"),
        ("0", None),
        ("0;url=", None),
        ("0;url=#top", None),
        ("0;url=b?c=1", None),
        ("300;url=/later", None),
        ("0;url=javascript:alert(1)", None),
        ("0;url=http://[", None),
        ("soon;url=/x", None),
    ],
)
def test_a_refresh_leads_where_browsers_go(content: str, there: str | None) -> None:
    """At once or within seconds, to another page of the web; what renews itself leads nowhere."""
    assert target(content) == there


def test_the_base_of_the_page_counts() -> None:
    """As for every link."""
    html = "<base href=/base/><meta http-equiv=refresh content='0;url=x'>"
    assert refresh_target(html, URL) == "https://shop.example/base/x"


@pytest.mark.parametrize(
    "around", ["<!-- {} -->", "<noscript>{}</noscript>", "<script>'{}'</script>", "<title>{}</title>"]
)
def test_what_is_not_for_browsers_leads_nowhere(around: str) -> None:
    """Comments, texts, and what only browsers without scripts obey: shops have that on every page."""
    assert (
        refresh_target(around.format("<meta http-equiv=refresh content='0;url=/x'>") + "<h1>refresh</h1>", URL) is None
    )
