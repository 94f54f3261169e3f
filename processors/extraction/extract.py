"""From a page to a pipeline's values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import islice

from processors.extraction.fields import CompiledField, Fields
from processors.extraction.page import Page
from processors.extraction.sources import Source, SourceError
from processors.extraction.values import read

# A list takes no more: a selector that matches every link of a link farm must not make a record of megabytes.
_MOST_ITEMS = 1000
# Unreadable matches of one source that are looked at before the next source is asked.
_MOST_TRIES = 50
# Matches of one source that are looked at, the same ones again too.
_MOST_LOOKED_AT = 20_000
# What a preset's rules make tidy is short: a number, a name, with some words around it.
_LONGEST_UNTIDY = 2_000


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


def extract(html: str, url: str, fields: Fields, now: datetime | None = None) -> dict[str, object]:
    """The fields' values, JSON-able, by name; an optional field that is not found has no key.

    The same arguments give the same values. Only with `now` are dates such as "3 days ago" read, from it.
    Raises FieldMissing for the first required field that is not there, naming the others.
    """
    page = Page(html, url)
    values: dict[str, object] = {}
    missing: dict[str, list[str]] = {}
    for field in fields:
        tried: list[str] = []
        value = _value(field, page, now, tried)
        if value is not None:
            values[field.name] = value
        elif field.has_default:
            values[field.name] = field.default
        elif field.required:
            missing[field.name] = tried
    if missing:
        first, *also = missing
        raise FieldMissing(first, missing[first], also)
    return values


def _value(field: CompiledField, page: Page, now: datetime | None, tried: list[str]) -> object | None:
    for source in field.sources:
        try:
            values, unread = _readable(field, source, page, now)
        except SourceError as error:
            tried.append(f"{error}")
            continue
        if values:
            return values if field.many else values[0]
        tried.append(_told(source, unread, field, page))
    return None


def _readable(
    field: CompiledField, source: Source, page: Page, now: datetime | None
) -> tuple[list[object], str | None]:
    """The values that the source gives (one is enough for a single field), with the first text that is not one."""
    values: list[object] = []
    seen: set[str] = set()
    unread: str | None = None
    failures = 0
    for raw in islice(source.find(page), _MOST_LOOKED_AT):
        text = raw.text if field.tidy is None else field.tidy(raw.text[:_LONGEST_UNTIDY]) or ""
        value = read(field.kind, replace(raw, text=text), field.hints, page, now)
        if value is None:
            failures += 1
            unread = unread or raw.text.strip()
        elif (known := repr(value)) not in seen:
            seen.add(known)
            values.append(value)
        if (values and not field.many) or len(values) == _MOST_ITEMS or failures == _MOST_TRIES:
            break
    return values, unread


def _told(source: Source, unread: str | None, field: CompiledField, page: Page) -> str:
    if unread:
        shown = unread if len(unread) <= 60 else f"{unread[:57]}..."
        return f"{source.label} found {shown!r}, which cannot be read as {field.kind}"
    broken = page.unreadable_scripts if source.label.startswith("jsonld") else 0
    return f"{source.label} found nothing" + (f" ({broken} JSON-LD script(s) are not JSON)" if broken else "")
