"""The name of the page's product: the declared one where the heading agrees, else the main heading, else the titles."""

from __future__ import annotations

from collections.abc import Iterator

from processors.extraction.heading import heading_text, is_hidden, without_site
from processors.extraction.jsonld import plain
from processors.extraction.offers import products
from processors.extraction.page import Page
from processors.extraction.subject import plain_words
from processors.extraction.text import text_of
from processors.extraction.values import Raw

_AGREES = 0.5
# A product that has the page's own address is the page's, unless its name has nothing of the heading.
_BY_ADDRESS = 0.5
# A text of more is a description.
_LONGEST = 300


def titles(page: Page) -> Iterator[Raw]:
    """Texts that may be the name, the surest first."""
    declared = [
        (text, source, max(page.about.shares_name(text), _BY_ADDRESS if page.about.knows_address(node) else 0.0))
        for source, node in products(page)
        if (text := " ".join((plain(node.get("name")) or "").split())) and len(text) <= _LONGEST
    ]
    heading = "" if page.h1 is None else heading_text(page.h1)
    whole = "" if page.h1 is None else text_of(page.h1, _LONGEST)
    # Microdata on the heading itself has the words for screen readers too.
    declared = [(heading if text == whole and heading else text, source, shared) for text, source, shared in declared]
    bare = _bare(page, heading)
    for text, source, shared in declared:
        if shared > _BY_ADDRESS or (shared == _AGREES and not heading):
            yield Raw(_without_lead(text, bare), structured=True, source=source, sure=0.95 if shared == 1.0 else 0.9)
    if heading and len(heading) <= _LONGEST and page.h1 is not None and not is_hidden(page.h1):
        yield Raw(_without_lead(heading, bare), source="heading", sure=0.9 if bare else 0.8)
    if bare:
        yield Raw(bare, source="meta", sure=0.75)
    yield from (Raw(text, structured=True, source=source, sure=0.6) for text, source, _ in declared)
    if heading:
        yield Raw(heading, source="heading", sure=0.5)


def _bare(page: Page, heading: str) -> str:
    """The page's own title without the site's name; the one of its titles that is most like the heading."""
    site = next(iter(page.meta.get("og:site_name", ())), "")
    given = (*page.meta.get("og:title", ())[:1], page.title, *page.meta.get("twitter:title", ())[:1])
    bare = [without_site(text, page.address.hostname or "", site) for text in given if text.strip()]
    wanted = set(plain_words(heading))
    return max(bare, key=lambda text: len(wanted & set(plain_words(text))), default="")


def _without_lead(text: str, bare: str) -> str:
    """The text without words that lead up to the name ("Details about ..."), which the page's title leaves out."""
    if bare and text != bare and text.endswith(bare) and len(bare) >= 0.4 * len(text):
        return bare
    return text
