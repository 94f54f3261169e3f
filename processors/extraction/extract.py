"""From a page to a pipeline's values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from processors.extraction.fields import CompiledField, Fields
from processors.extraction.meta_refresh import meta_refresh_target, renews
from processors.extraction.page import Page
from processors.extraction.page_kind import Kind, verdict
from processors.extraction.sources import Guess, Source, SourceError
from processors.extraction.values import Raw, read

# A list takes no more: a selector that matches every link of a link farm must not make a record of megabytes.
_MOST_ITEMS = 1000
# Unreadable matches of one source that are looked at before the next source is asked.
_MOST_TRIES = 50
# Matches of one source that are looked at, the same ones again too.
_MOST_LOOKED_AT = 20_000
# What a preset's rules make tidy is short: a number, a name, with some words around it.
_LONGEST_UNTIDY = 2_000


# How sure one can be of what a preset finds in structured data by plain paths.
_DECLARED = {"jsonld": 0.93, "microdata": 0.92, "meta": 0.8}


class FieldMissing(Exception):
    """A required field is not on the page; `tried` says of each of its selectors what it found instead.

    Only the page or the pipeline can be at fault, so trying again will not help.
    """

    def __init__(self, field: str, tried: Iterable[str], also: Iterable[str] = ()) -> None:
        self.field = field
        self.tried = tuple(tried)
        self.also = tuple(also)
        others = f" (also missing: {', '.join(self.also)})" if self.also else ""
        super().__init__(
            f"required field {field} was not found: {'; '.join(self.tried)}{others}. "
            f"Correct its selector, or set `required: false` or a `default`"
        )


class NoProductPage(FieldMissing):
    """The page is no product's page: nothing of a product is missing from it, it is about something else.

    `against` says what it is taken for. Every handler of a missing field does for it; who tells them apart asks for this one.
    """

    def __init__(self, against: str) -> None:
        self.field = "title"
        self.tried = ()
        self.also = ()
        self.against = against
        Exception.__init__(
            self,
            f"no product page: {against}, and it offers nothing for sale. Submit the addresses of products only; for a page "
            f"that is one all the same, give `fields` their own selectors",
        )


class PageElsewhere(FieldMissing):
    """The page only sends on to another address, in `target`; nothing of what is asked for stands on it."""

    def __init__(self, target: str) -> None:
        self.field = "title"
        self.tried = ()
        self.also = ()
        self.target = target
        Exception.__init__(
            self,
            f"the page is elsewhere: it only sends on to {target[:200]!r} by <meta http-equiv=refresh>; submit that address",
        )


@dataclass(frozen=True, slots=True)
class Quality:
    """Where a value came from (`jsonld`, `label`, `shown`, `css`, ...), and how sure it is, from 0 to 1."""

    source: str
    sure: float


@dataclass(frozen=True, slots=True)
class Extraction:
    """The fields' values by name, with the quality of each."""

    values: dict[str, object]
    quality: dict[str, Quality]


def extract(html: str, url: str, fields: Fields, now: datetime | None = None) -> dict[str, object]:
    """The fields' values, JSON-able, by name; see `examine`."""
    return examine(html, url, fields, now).values


def examine(html: str, url: str, fields: Fields, now: datetime | None = None) -> Extraction:
    """The fields' values with their quality; an optional field that is not found, or not surely enough, has no key.

    The same arguments give the same values. Only with `now` are dates such as "3 days ago" read, from it.
    Raises FieldMissing for the first required field that is not there, naming the others; PageElsewhere where the page
    only sends on; NoProductPage where a preset is asked about a page of another kind, unless a selector of the author's
    own finds something there.
    """
    if (target := meta_refresh_target(html, url)) and not renews(target, url):
        raise PageElsewhere(target)
    page = Page(html, url)
    values: dict[str, object] = {}
    quality: dict[str, Quality] = {}
    missing: dict[str, list[str]] = {}
    refusal = _refusal(page) if any(field.rule is not None for field in fields) else None
    for field in sorted(fields, key=lambda field: field.rule is not None) if refusal else fields:
        if refusal and field.rule is not None and not quality:
            raise NoProductPage(refusal)
        tried: list[str] = []
        found = _found(field, page, now, tried)
        if found is not None:
            values[field.name], quality[field.name] = found
        elif field.has_default:
            values[field.name] = field.default
        elif field.required:
            missing[field.name] = tried
    if missing:
        first, *also = missing
        raise FieldMissing(first, missing[first], also)
    return Extraction(values, quality)


def _refusal(page: Page) -> str | None:
    found = page.once(verdict)
    return found.against if found.kind is Kind.OTHER else None


def _found(field: CompiledField, page: Page, now: datetime | None, tried: list[str]) -> tuple[object, Quality] | None:
    for source in field.sources:
        try:
            values, quality, unread = _readable(field, source, page, now)
        except SourceError as error:
            tried.append(f"{error}")
            continue
        if values and quality is not None:
            return (values if field.many else values[0]), quality
        tried.append(_told(source, unread, field, page))
    return None


def _readable(
    field: CompiledField, source: Source, page: Page, now: datetime | None
) -> tuple[list[object], Quality | None, str | None]:
    """The values that the source gives (one is enough for a single field), their quality, the first text that is not one."""
    values: list[object] = []
    seen: set[str] = set()
    quality: Quality | None = None
    unread: str | None = None
    failures = 0
    for raw in islice(source.find(page), _MOST_LOOKED_AT):
        text = raw.text if field.tidy is None else field.tidy(raw.text[:_LONGEST_UNTIDY]) or ""
        value = read(field.kind, replace(raw, text=text), field.hints, page, now) if raw.value is None else raw.value
        sure = _sure(field, source, raw)
        if value is None or sure < field.least:
            failures += 1
            doubt = "" if value is None else f" ({sure:.2f} sure, {field.least:.2f} wanted)"
            unread = unread or f"{raw.text.strip()}{doubt}"
        elif (known := repr(value)) not in seen:
            seen.add(known)
            values.append(value)
            # A list is as sure as the least sure of its items.
            quality = Quality(raw.source or source.label.partition(" ")[0], min(sure, quality.sure if quality else 1.0))
        if (values and not field.many) or len(values) == _MOST_ITEMS or failures == _MOST_TRIES:
            break
    return values, quality, unread


def _sure(field: CompiledField, source: Source, raw: Raw) -> float:
    if field.rule is None or isinstance(source, Guess):
        return raw.sure
    return _DECLARED.get(raw.source, raw.sure)


def _told(source: Source, unread: str | None, field: CompiledField, page: Page) -> str:
    if unread:
        shown = unread if len(unread) <= 60 else f"{unread[:57]}..."
        why = "which is not sure enough" if "sure, " in unread else f"which cannot be read as {field.kind}"
        return f"{source.label} found {shown!r}, {why}"
    broken = page.unreadable_scripts if source.label.startswith("jsonld") else 0
    return f"{source.label} found nothing" + (f" ({broken} JSON-LD script(s) are not JSON)" if broken else "")
