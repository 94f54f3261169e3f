"""The cookies of one fetch: those that the pipeline sets and the site's own, in one header."""

from __future__ import annotations

import httpx


class FetchCookies:
    """What a site set on the way to one page. Bytes go back as they came, whatever encoding they are in."""

    def __init__(self) -> None:
        self._jar = httpx.Cookies()

    def take(self, response: httpx.Response) -> None:
        """Keep what an answer sets; its headers have to be decoded as Latin-1, which loses no byte."""
        self._jar.extract_cookies(response)

    def header(self, url: httpx.URL, configured: str = "") -> str:
        """Return the Cookie header for an address; where the site set a cookie of the same name, the site's holds."""
        asked = httpx.Request("GET", url)
        asked.headers.encoding = "iso-8859-1"
        self._jar.set_cookie_header(asked)
        own = asked.headers.get("cookie", "")
        if not own or not configured:
            return own or configured
        names = {_name(pair) for pair in own.split(";")}
        kept = [pair.strip() for pair in configured.split(";") if pair.strip() and _name(pair) not in names]
        return "; ".join([*kept, own])


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip()
