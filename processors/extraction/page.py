"""A page: parsed once, with its structured data read the first time somebody asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from itertools import islice
from typing import TypeVar, cast
from urllib.parse import SplitResult, urljoin, urlsplit

from lxml import etree

from processors.extraction import jsonld, microdata
from processors.extraction.budget import MOST_JSON_VALUES, MOST_TEXT, PageTooLarge, check_source
from processors.extraction.currencies import code_of
from processors.extraction.heading import main_heading
from processors.extraction.jsonld import Nodes
from processors.extraction.names import NamedElements
from processors.extraction.numerals import country
from processors.extraction.outline import Shown, elements_of, texts_of
from processors.extraction.subject import About, address, own_nodes
from processors.extraction.text import text_of

T = TypeVar("T")

_CURRENCY_METAS = ("og:price:currency", "product:price:currency", "pricecurrency")
# Looked for in one walk: each search of a tree takes as long.
_SOUGHT = ("script", "meta", "base", "title", "h1", "link")
_SHORTEST_HEADING = 6
_AROUND = 4
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
        self._lowered = body.lower()
        self.url = url
        self.root = _parsed(body)
        self._texts_left = MOST_TEXT
        self._answers: dict[object, object] = {}

    def text_of(self, element: etree._Element, enough: int | None = None) -> str:
        """The text inside the element, as `text.text_of` gives it. Raises PageTooLarge if too much was asked for."""
        return text_of(element, enough, self._spend)

    def mentions(self, name: str) -> bool:
        """Whether an element can have such an attribute. To search the source takes far less than to search the tree."""
        return name.encode() in self._lowered

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

    def once(self, rule: Callable[[Page], T], key: object = None) -> T:
        """What the rule says of this page, asked once for each key however many fields want it."""
        asked = rule if key is None else key
        if asked not in self._answers:
            self._answers[asked] = rule(self)
        return cast("T", self._answers[asked])

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
        return Nodes(
            microdata.items(self.root, self.text_of) if self.mentions("itemprop") or self.mentions("itemscope") else ()
        )

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
            *(node.get("priceCurrency") for node in (*self.own_jsonld, *self.own_microdata)),
            *(code for name in _CURRENCY_METAS for code in self.meta.get(name, ())),
        )
        return next((code for text in declared if isinstance(text, str) and (code := code_of(text))), None)

    @cached_property
    def language(self) -> str:
        """The page's language tag in lower case, such as `en-gb`, or empty."""
        # A search for the element would go through the whole page for the next one.
        html = self.root if self.root.tag == "html" else next(self.root.iter("html"), self.root)
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
    def languages(self) -> tuple[str, ...]:
        """The page's language tag, and that of the country that its domain belongs to, as far as they are told."""
        return tuple(filter(None, (self.language, country(self.top_level_domain))))

    @cached_property
    def titles(self) -> str:
        """The page's <title> with its og:title and its main heading, of long ones the beginning."""
        return f"{self._declared_titles} {self._heading}"

    @cached_property
    def _declared_titles(self) -> str:
        parts = (self.title, *self.meta.get("og:title", ())[:1])
        return " ".join(part[:_LONGEST_TITLE] for part in parts)

    @cached_property
    def title(self) -> str:
        """The <title>, of a long one the beginning."""
        return next((text_of(element, _LONGEST_TITLE)[:_LONGEST_TITLE] for element in self._of_tag["title"]), "")

    @cached_property
    def _heading(self) -> str:
        return "" if self.h1 is None else self.text_of(self.h1, _LONGEST_TITLE)[:_LONGEST_TITLE]

    @cached_property
    def h1(self) -> etree._Element | None:
        """The <h1> that names what the page is about: logos, dialogs and shelves have theirs too."""
        return main_heading(self._of_tag["h1"], self._declared_titles, self.address.path)

    @cached_property
    def around_heading(self) -> frozenset[etree._Element]:
        """The elements that hold the <h1>, less those that hold the whole page."""
        above = () if self.h1 is None else islice(self.h1.iterancestors(), _AROUND)
        return frozenset(element for element in above if element.tag not in ("html", "body", "form"))

    @cached_property
    def about(self) -> About:
        """What tells which of the declared products is the page's."""
        canonical = [link.get("href", "") for link in self._of_tag["link"] if link.get("rel") == "canonical"]
        given = (self.url, *canonical[:2], *self.meta.get("og:url", ())[:2])
        known = (address(text[:_LONGEST_ADDRESS]) for text in given)
        return About(frozenset(filter(None, known)), self._heading, self._declared_titles)

    @cached_property
    def own_jsonld(self) -> Nodes:
        """The JSON-LD nodes without those of other products, the page's own product first."""
        return Nodes(own_nodes(self.jsonld, self.about))

    @cached_property
    def own_microdata(self) -> Nodes:
        """The microdata items without those of other products, the page's own product first."""
        return Nodes(own_nodes(self.microdata, self.about))

    @cached_property
    def _named(self) -> NamedElements:
        return NamedElements(self._elements[1:])

    def named(self, rule: re.Pattern[str]) -> list[etree._Element]:
        """The elements that are called as a rule of `names` says, in document order."""
        return self._named.by(rule)

    @cached_property
    def scripts(self) -> str:
        """The source of all inline scripts."""
        return "\n".join(text for each in self._of_tag["script"] if each.get("src") is None and (text := each.text))

    @cached_property
    def lowered_scripts(self) -> bytes:
        """The scripts' source with its ASCII letters in lower case."""
        return self.scripts.encode().lower()

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
        if self.h1 is not None:
            return self.place_of(self.h1)
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
