"""What a page's reader is asked and answers, and how it reads: the one way from archived bytes to values.

It runs in a process of its own (`processors.extraction.reader`), since a page may take for ever: a pipeline's own regular
expression can, and nothing but the end of the process stops one.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import zstandard

from processors.extraction.budget import PageTooLarge
from processors.extraction.charset import decode
from processors.extraction.extract import Extraction, FieldMissing, examine
from processors.extraction.fields import Fields, compile_fields
from processors.extraction.meta_refresh import meta_refresh_target, renews
from processors.redaction import sanitised_url

# A few kilobytes of zstd can claim to be gigabytes.
MOST_PAGE_BYTES = 64 * 1024 * 1024
_PIPELINES = 64
# It names each selector that was tried.
_LONGEST_REASON = 4_000


class ReadPage(msgspec.Struct, frozen=True):
    """An archived page, with what to look for. `fields` and `preset` as a pipeline has them, `fields` in JSON.

    Of the preset's fields only those are looked for that the record has, where `record` names its fields.
    """

    archived: bytes
    content_type: str | None
    url: str
    now: datetime | None
    fields: bytes
    preset: str | None
    min_quality: float | None = None
    record: tuple[str, ...] | None = None


class PageValues(msgspec.Struct, frozen=True, tag=True):
    """The fields' values by name, and the encoding that the page was read by.

    `quality` says where values came from and how sure they are; what the author's own selectors found is left out.
    """

    values: dict[str, Any]
    encoding: str
    quality: dict[str, tuple[str, float]] = {}


class Unread(msgspec.Struct, frozen=True, tag=True):
    """Why the page has no values."""

    reason: str


class BadArchive(Exception):
    """What was archived is no page; the message says why."""


def read_page(asked: ReadPage) -> PageValues | Unread:
    """The values of a page, or why there are none; the same question has the same answer."""
    try:
        body = unpacked(asked.archived)
        html, encoding = decode(body, asked.content_type)
        if (target := meta_refresh_target(html, asked.url)) and not renews(target, asked.url):
            return Unread(f"the page only sends browsers on to {sanitised_url(target)}: submit that address")
        fields = _fields(asked.fields, asked.preset, asked.min_quality)
        found = examine(html, asked.url, fields if asked.record is None else fields.within(asked.record), asked.now)
        return PageValues(found.values, encoding, _told(found))
    except (FieldMissing, PageTooLarge, BadArchive) as error:
        return Unread(str(error)[:_LONGEST_REASON])


def unpacked(archived: bytes) -> bytes:
    """Return a page as it was before it was archived. Raises BadArchive."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(archived) as pages:
            body = pages.read(MOST_PAGE_BYTES + 1)
    except zstandard.ZstdError as error:
        raise BadArchive(f"the archived page is not zstd: {error}") from error
    if len(body) > MOST_PAGE_BYTES:
        raise BadArchive(f"the page is over {MOST_PAGE_BYTES} bytes, more than a page worth parsing has")
    return bytes(body)


def unpacked_at_most(archived: bytes, most: int) -> bool:
    """Whether the page has at most so many bytes; nothing beyond them is unpacked."""
    if len(archived) > most:
        return False
    try:
        with zstandard.ZstdDecompressor().stream_reader(archived) as page:
            return len(page.read(most + 1)) <= most
    except zstandard.ZstdError:
        return True


@lru_cache(maxsize=_PIPELINES)
def _fields(fields: bytes, preset: str | None, min_quality: float | None) -> Fields:
    return compile_fields(msgspec.json.decode(fields), preset, min_quality)


def _told(found: Extraction) -> dict[str, tuple[str, float]]:
    qualities = found.quality.items()
    return {name: (quality.source, round(quality.sure, 2)) for name, quality in qualities if quality.sure < 1}
