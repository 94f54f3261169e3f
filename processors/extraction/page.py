"""A page: parsed once, with its structured data read the first time somebody asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from lxml import etree

from processors.extraction import jsonld, microdata
from processors.extraction.budget import MOST_JSON_VALUES, MOST_TEXT, PageTooLarge, check_source
from processors.extraction.currencies import code_of
from processors.extraction.jsonld import Nodes
from processors.extraction.outline import Shown, elements_of, places_by_name, texts_of
from processors.extraction.remembered import Remembered
from processors.extraction.text import text_of

T = TypeVar("T")

_CURRENCY_METAS = ("og:price:currency", "product:price:currency", "pricecurrency")
# Looked for in one walk: each search of a tree takes as long.
_SOUGHT = ("script", "meta", "base", "title", "h1")
_MOST_HEADINGS = 8
_SHORTEST_HEADING = 6
# A title that goes on beyond this says nothing more of the product; every text of the page is looked for in it.
_LONGEST_TITLE = 2_000
# Browsers and servers take no longer addresses.
_LONGEST_ADDRESS = 8_192
_EMPTY = b"<html></html>"


class Page:
    """One HTML page at one address. Reading it never changes it."""

    def __init__(self, html: str, url: str) -> None:
        check_source(html)
        html = html.replace("\x00", "").strip()
        try:
            body = html.encode()
        except UnicodeEncodeError:
            # Lone surrogates come out of JSON strings and broken decoders; libxml2 takes only what UTF-8 can say.
            body = html.encode("utf-8", "replace")
            html = body.decode()
        self.html = html
        self.url = url
        self.root = _parsed(body)
        self._texts_left = MOST_TEXT
        self._found: dict[object, Any] = {}

    def once(self, rule: Callable[[Page], Iterable[T]]) -> Iterable[T]:
        """What a rule finds on the page: several fields ask for the same, and it is looked for once."""
        if rule not in self._found:
            self._found[rule] = Remembered(rule(self))
        found: Remembered[T] = self._found[rule]
        return found

    def text_of(self, element: etree._Element, enough: int | None = None) -> str:
        """The text inside the element, as `text.text_of` gives it. Raises PageTooLarge if too much was asked for."""
        return text_of(element, enough, self._spend)

    def _spend(self, characters: int) -> None:
        self._texts_left -= characters
        if self._texts_left < 0:
            raise PageTooLarge(f"the elements asked for hold over {MOST_TEXT:,} characters, each inside of others")

    @cached_property
    def _of_tag(self) -> dict[str, list[etree._Element]]:
        found: dict[str, list[etree._Element]] = {tag: [] for tag in _SOUGHT}
        for element in self.root.iter(*_SOUGHT):
            found[element.tag].append(element)
        return found

    @cached_property
    def _elements(self) -> list[etree._Element]:
        return elements_of(self.root)

    @cached_property
    def _scripts(self) -> list[list[object] | None]:
        texts = [each.text or "" for each in self._of_tag["script"] if "ld+json" in (each.get("type") or "").lower()]
        if (values := sum(map(jsonld.values_in, texts))) > MOST_JSON_VALUES:
            raise PageTooLarge(
                f"the page's JSON-LD has some {values:,} values, over the {MOST_JSON_VALUES:,} that are read"
            )
        return [jsonld.read_script(text) for text in texts]

    @cached_property
    def unreadable_scripts(self) -> int:
        """How many JSON-LD scripts could not be read even leniently."""
        return self._scripts.count(None)

    @cached_property
    def jsonld(self) -> Nodes:
        """All JSON-LD nodes in document order."""
        return jsonld.nodes(self._scripts)

    @cached_property
    def microdata(self) -> Nodes:
        """All microdata items in document order."""
        return Nodes(microdata.items(self.root, self.text_of))

    @cached_property
    def meta(self) -> dict[str, list[str]]:
        """Contents of <meta> by their `property`, `name` or `itemprop` in lower case."""
        found: dict[str, list[str]] = {}
        for element in self._of_tag["meta"]:
            if (content := element.get("content")) is None:
                continue
            for attribute in ("property", "name", "itemprop"):
                if name := element.get(attribute):
                    found.setdefault(name.strip().lower(), []).append(content.strip())
        return found

    @cached_property
    def currency(self) -> str | None:
        """The ISO 4217 code that the page declares for its prices: JSON-LD, microdata, then <meta>."""
        declared = (
            *(node.get("priceCurrency") for node in (*self.jsonld, *self.microdata)),
            *(code for name in _CURRENCY_METAS for code in self.meta.get(name, ())),
        )
        return next((code for text in declared if isinstance(text, str) and (code := code_of(text))), None)

    @cached_property
    def language(self) -> str:
        """The page's language tag in lower case, such as `en-gb`, or empty."""
        html = next(self.root.iter("html"), self.root)
        declared = html.get("lang") or html.get("{http://www.w3.org/XML/1998/namespace}lang") or html.get("xml:lang")
        return (declared or "").strip().lower().replace("_", "-")

    @cached_property
    def address(self) -> SplitResult:
        """The page's address, split; empty if it is no address."""
        try:
            return urlsplit(self.url)
        except ValueError:
            return SplitResult("", "", "", "", "")

    @property
    def top_level_domain(self) -> str:
        """The last label of the host, such as `de`."""
        return (self.address.hostname or "").rpartition(".")[2]

    @cached_property
    def titles(self) -> str:
        """The page's <title> with its og:title and its main heading, of long ones the beginning."""
        heading = "" if self._h1 is None else self.text_of(self._h1, _LONGEST_TITLE)
        parts = (self._title, *self.meta.get("og:title", ())[:1], heading)
        return " ".join(part[:_LONGEST_TITLE] for part in parts)

    @cached_property
    def _title(self) -> str:
        return next((text_of(element, _LONGEST_TITLE)[:_LONGEST_TITLE] for element in self._of_tag["title"]), "")

    @cached_property
    def _h1(self) -> etree._Element | None:
        """The <h1> that shares most words with the <title>: logos, dialogs and shelves have theirs too."""
        declared = " ".join(self.meta.get("og:title", ()))[:_LONGEST_TITLE]
        title = {*self._title.casefold().split(), *declared.casefold().split()}
        shared: list[tuple[int, etree._Element]] = []
        for element in self._of_tag["h1"][:_MOST_HEADINGS]:
            words = {*self.text_of(element, _LONGEST_TITLE).casefold().split()}
            shared.append((len(words & title), element))
        best = max(shared, key=lambda pair: pair[0], default=(0, None))
        return best[1] if best[0] else None

    @cached_property
    def _named(self) -> dict[str, list[tuple[int, etree._Element]]]:
        # By their names, since a page has far fewer of these than elements.
        return places_by_name(self._elements)

    def named(self, words: re.Pattern[str]) -> Iterator[etree._Element]:
        """Elements in whose class, id, itemprop or test id (in lower case) the pattern is found, in document order."""
        found = [place for names, places in self._named.items() if words.search(names) for place in places]
        return (element for _, element in sorted(found, key=itemgetter(0)))

    @cached_property
    def scripts(self) -> str:
        """The source of all inline scripts."""
        return "\n".join(text for each in self._of_tag["script"] if each.get("src") is None and (text := each.text))

    @cached_property
    def texts(self) -> list[Shown]:
        """Every piece of text that a reader sees, in document order, white space made plain."""
        return texts_of(self._elements)

    @cached_property
    def places(self) -> dict[etree._Element, int]:
        """Where in `texts` each element that directly holds text has its first."""
        places: dict[etree._Element, int] = {}
        for at, shown in enumerate(self.texts):
            places.setdefault(shown.element, at)
        return places

    def place_of(self, element: etree._Element) -> int:
        """Where in `texts` the element's text begins; 0 if it has none."""
        places = self.places
        return next((places[inner] for inner in element.iter() if inner in places), 0)

    @cached_property
    def heading_place(self) -> int:
        """Where in `texts` the product's heading is: its <h1>, else the longest text that the title has too, else 0."""
        if self._h1 is not None:
            return self.place_of(self._h1)
        title = self.titles.casefold()
        told = [
            (len(shown.text), -at)
            for at, shown in enumerate(self.texts)
            if len(shown.text) >= _SHORTEST_HEADING and shown.text.casefold() in title
        ]
        return -max(told)[1] if told else 0

    @cached_property
    def base(self) -> str:
        """The address that relative links start from."""
        link = next((link for each in self._of_tag["base"] if (link := each.get("href")) is not None), "")
        return self.resolved(self.url, link) or self.url

    @staticmethod
    def resolved(base: str, link: str) -> str:
        """The link made absolute, or nothing where it is no address."""
        if len(base) + len(link) > _LONGEST_ADDRESS:
            return ""
        try:
            absolute = urljoin(base, link)
            urlsplit(absolute)
        except ValueError:
            return ""
        return absolute


def _parsed(body: bytes) -> etree._Element:
    try:
        root = etree.fromstring(body or _EMPTY, _parser())
    except etree.XMLSyntaxError:
        root = None
    # Text without a single tag may leave nothing to parse; such a page has no elements, which is no error.
    return root if root is not None else etree.fromstring(_EMPTY, _parser())


def _parser() -> etree.HTMLParser:
    return etree.HTMLParser(recover=True, encoding="utf-8", huge_tree=True)
