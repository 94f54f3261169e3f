"""Where a field's text comes from: selectors, checked once when the pipeline is loaded, then run on each page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from cssselect import SelectorError
from lxml import etree
from parsel import Selector
from parsel.csstranslator import HTMLTranslator

from processors.extraction import jsonld
from processors.extraction.images import image_address
from processors.extraction.page import Page
from processors.extraction.values import Raw, Type

_EMPTY = etree.fromstring("<html/>", etree.HTMLParser())
_NAMESPACES = {"re": "http://exslt.org/regular-expressions", "set": "http://exslt.org/sets"}
# What may be called in an expression: XPath 1.0 with its node tests, EXSLT's regular expressions, parsel's own.
_FUNCTIONS = frozenset(
    (
        *("last", "position", "count", "id", "local-name", "namespace-uri", "name"),
        *("string", "concat", "starts-with", "contains", "substring-before", "substring-after", "substring"),
        *("string-length", "normalize-space", "translate", "boolean", "not", "true", "false"),
        *("lang", "number", "sum", "floor", "ceiling", "round", "node"),
        *("text", "comment", "processing-instruction", "and", "or", "div", "mod"),
        *("has-class", "re:test", "re:match", "re:replace", "set:difference", "set:distinct", "set:has-same-node"),
        *("set:intersection", "set:leading", "set:trailing"),
    )
)
_LITERAL = re.compile(r"\"[^\"]*\"|'[^']*'")
_CALL = re.compile(r"([A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?)\s*\(")
_PREFIX = re.compile(r"(?<![\w:.-])([A-Za-z_][\w.-]*):(?=[A-Za-z_*])")
_LINKS = ("href", "src", "content", "data-src")
# parsel's has-class() and the like become known to lxml when its first Selector is made.
Selector("<html/>")


class SourceError(ValueError):
    """A selector that cannot work; the message says why."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A CSS or XPath expression over the page's elements."""

    label: str
    expression: etree.XPath
    attr: str | None
    kind: Type

    def find(self, page: Page) -> Iterator[Raw]:
        """The text of every match, in document order."""
        try:
            result = self.expression(page.root)
        except etree.XPathError as error:
            raise SourceError(f"{self.label}: {error}") from error
        for match in result if isinstance(result, list) else [result]:
            if isinstance(match, etree._Element):
                yield Raw(self._text(match, page))
            elif isinstance(match, float) and match == int(match):
                yield Raw(str(int(match)))
            else:
                yield Raw(str(match).lower() if isinstance(match, bool) else str(match))

    def _text(self, element: etree._Element, page: Page) -> str:
        if self.attr is not None:
            # The picture that is shown in the end is meant, not the stand-in until then.
            if self.attr == "src" and self.kind is Type.URL and element.tag == "img":
                return image_address(element) or element.get("src") or ""
            return element.get(self.attr) or ""
        if element.tag == "meta":
            return element.get("content") or ""
        if self.kind is Type.URL and element.tag == "img" and (address := image_address(element)):
            return address
        if self.kind is Type.URL:
            return next((link for name in _LINKS if (link := element.get(name))), "") or page.text_of(element)
        if self.kind is Type.DATE and (moment := element.get("datetime")):
            return str(moment)
        return page.text_of(element)


@dataclass(frozen=True, slots=True)
class Structured:
    """A path through the page's JSON-LD (`microdata=False`) or its microdata."""

    label: str
    path: str
    microdata: bool
    kind: Type

    def find(self, page: Page) -> Iterator[Raw]:
        """The text of every value at the path; an offer read as money is its price with its currency."""
        for found in jsonld.follow(self.path, page.own_microdata if self.microdata else page.own_jsonld):
            value, holder = found.value, found.holder
            if isinstance(value, dict) and self.kind is Type.MONEY and ("price" in value or "value" in value):
                holder = value
                value = holder.get("price", holder.get("value"))
            if isinstance(value, dict) and self.kind is Type.URL:
                value = value.get("url") or value.get("contentUrl") or value
            if text := jsonld.plain(value):
                currency = jsonld.plain(holder.get("priceCurrency") or holder.get("currency"))
                source = "microdata" if self.microdata else "jsonld"
                yield Raw(text, structured=True, currency=currency or "", source=source)


@dataclass(frozen=True, slots=True)
class Meta:
    """The content of <meta> tags of one name."""

    label: str
    name: str

    def find(self, page: Page) -> Iterator[Raw]:
        """Every content given under the name."""
        for content in page.meta.get(self.name, ()):
            yield Raw(content, structured=True, source="meta")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression over the page's source: its first group, or all of it."""

    label: str
    pattern: re.Pattern[str]

    def find(self, page: Page) -> Iterator[Raw]:
        """Every match in the source."""
        for match in self.pattern.finditer(page.html):
            yield Raw((match[1] if self.pattern.groups else match[0]) or "")


@dataclass(frozen=True, slots=True)
class Guess:
    """A rule of thumb of the preset, for pages that declare nothing."""

    label: str
    rule: Callable[[Page], Iterator[Raw]]

    def find(self, page: Page) -> Iterator[Raw]:
        """What the rule takes for the field, the likeliest first."""
        return self.rule(page)


Source: TypeAlias = Selected | Structured | Meta | Pattern | Guess


def css(selector: str, attr: str | None, kind: Type) -> Source:
    """A CSS selector, `::text` and `::attr(name)` included; raises SourceError."""
    try:
        expression = HTMLTranslator().css_to_xpath(selector)
        return Selected(f"css {selector}", _compiled(expression), attr, kind)
    except (SelectorError, ValueError, RecursionError) as error:
        raise SourceError(f"css {selector!r} is not a CSS selector: {error}") from error


def xpath(expression: str, attr: str | None, kind: Type) -> Source:
    """An XPath 1.0 expression, with parsel's functions; raises SourceError."""
    try:
        return Selected(f"xpath {expression}", _compiled(expression), attr, kind)
    except ValueError as error:
        raise SourceError(f"xpath {expression!r} is not an XPath expression: {error}") from error


def _compiled(expression: str) -> etree.XPath:
    _check_names(_LITERAL.sub("''", expression))
    try:
        compiled = etree.XPath(expression, namespaces=_NAMESPACES, smart_strings=False)
        compiled(_EMPTY)
    except (etree.XPathError, UnicodeError) as error:
        raise SourceError(str(error)) from error
    return compiled


def _check_names(expression: str) -> None:
    """Refuse what libxml2 would only notice when a page has the element that the name is asked of."""
    for name in _CALL.findall(expression):
        if name.rpartition("::")[2] not in _FUNCTIONS:
            raise SourceError(f"there is no function {name}()")
    for prefix in _PREFIX.findall(expression):
        if prefix not in _NAMESPACES:
            raise SourceError(f"there is no prefix {prefix}:, since HTML has no namespaces")
    if "$" in expression:
        raise SourceError("there are no variables")


def structured(path: str, microdata: bool, kind: Type) -> Source:
    """A path such as `Product.offers.price`; raises SourceError."""
    label = f"{'microdata' if microdata else 'jsonld'} {path}"
    if not jsonld.is_path(path):
        raise SourceError(f"{label!r} is not a path: write names joined by dots, such as Product.offers.price")
    return Structured(label, path, microdata, kind)


def meta(name: str) -> Source:
    """A <meta> tag by its `name`, `property` or `itemprop`, whatever its case; raises SourceError."""
    if not name.strip():
        raise SourceError("meta needs the name of a <meta> tag, such as og:title")
    return Meta(f"meta {name}", name.strip().lower())


def regex(pattern: str) -> Source:
    """A regular expression over the page's source; raises SourceError."""
    try:
        return Pattern(f"regex {pattern}", re.compile(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise SourceError(f"regex {pattern!r} is not a regular expression: {error}") from error
