"""A page: parsed once, with its structured data read the first time somebody asks."""

from __future__ import annotations

from functools import cached_property
from urllib.parse import SplitResult, urljoin, urlsplit

from lxml import etree

from processors.extraction import jsonld, microdata
from processors.extraction.text import text_of

_SCRIPTS = etree.XPath("//script[contains(translate(@type, 'LDJSON', 'ldjson'), 'ld+json')]")
_METAS = etree.XPath("//meta[@content]")
_BASE = etree.XPath("string(//base[@href][1]/@href)")
_EMPTY = b"<html></html>"


class Page:
    """One HTML page at one address. Reading it never changes it."""

    def __init__(self, html: str, url: str) -> None:
        # Lone surrogates come out of JSON strings and broken decoders; libxml2 takes only what UTF-8 can say.
        self.html = html if html.isascii() else html.encode("utf-8", "replace").decode("utf-8")
        self.url = url
        self.root = _parsed(self.html.replace("\x00", "").strip().encode())

    @cached_property
    def _scripts(self) -> list[list[object] | None]:
        return [jsonld.read_script(script.text or "") for script in _SCRIPTS(self.root)]

    @cached_property
    def unreadable_scripts(self) -> int:
        """How many JSON-LD scripts could not be read even leniently."""
        return self._scripts.count(None)

    @cached_property
    def jsonld(self) -> list[jsonld.Node]:
        """All JSON-LD nodes in document order."""
        return jsonld.nodes(self._scripts)

    @cached_property
    def microdata(self) -> list[dict[str, object]]:
        """All microdata items in document order."""
        return microdata.items(self.root)

    @cached_property
    def meta(self) -> dict[str, list[str]]:
        """Contents of <meta> by their `property`, `name` or `itemprop` in lower case."""
        found: dict[str, list[str]] = {}
        for element in _METAS(self.root):
            for attribute in ("property", "name", "itemprop"):
                if name := element.get(attribute):
                    found.setdefault(name.strip().lower(), []).append(element.get("content", "").strip())
        return found

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
    def heading(self) -> str:
        """The text of the first <h1> that has any."""
        return next((text for element in self.root.iter("h1") if (text := text_of(element))), "")

    @cached_property
    def base(self) -> str:
        """The address that relative links start from."""
        return self.resolved(self.url, str(_BASE(self.root)))

    @staticmethod
    def resolved(base: str, link: str) -> str:
        """The link made absolute, or as it is where it cannot be."""
        try:
            return urljoin(base, link)
        except ValueError:
            return link


def _parsed(body: bytes) -> etree._Element:
    try:
        root = etree.fromstring(body or _EMPTY, _parser())
    except etree.XMLSyntaxError:
        root = None
    # Text without a single tag may leave nothing to parse; such a page has no elements, which is no error.
    return root if root is not None else etree.fromstring(_EMPTY, _parser())


def _parser() -> etree.HTMLParser:
    return etree.HTMLParser(recover=True, encoding="utf-8", huge_tree=True)
