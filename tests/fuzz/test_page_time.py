"""Pages made to take long take time and memory in proportion to their size, up to the largest; past it they are refused.

`make fuzz` tries each at its full eight mebibytes; the ordinary tests take a sixteenth.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from processors.extraction.budget import MOST_CHARACTERS, PageTooLarge
from processors.extraction.charset import decode
from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import compile_fields
from processors.extraction.meta_refresh import meta_refresh_target
from tests.fuzz.bytes import MOST_CPU_S
from tests.fuzz.hostile_pages import ADDRESSES, BODIES, HEADERS, PAGES, Maker
from tests.fuzz.test_decoders import EXAMPLES

URL = "https://shop.example/p/1234567"
FIELDS = compile_fields({"title": {"required": False}}, "product")
EVERYTHING = compile_fields(
    {
        "words": {"css": "*", "type": "list"},
        "links": {"css": "*", "attr": "href", "type": "list", "items": "url"},
        "dates": {"css": "p, h1, time", "type": "list", "items": "date"},
        "sums": {"xpath": "//*", "type": "list", "items": "money"},
        "prices": {"jsonld": "offers.price", "type": "list", "items": "number"},
        "names": {"microdata": "name", "type": "list"},
        "stock": {"css": "[class]", "type": "list", "items": "availability"},
    }
)
FULL = EXAMPLES > 500
MOST_MIB = 300

# Times four in size is times four in time, with some for the logarithm and the machine; squared it would be sixteen.
SMALL, FACTOR, MOST_GROWTH = 25_000, 4, 9.0
# What is quicker than this says nothing of growth.
TICK_S = 0.025


def read(html: str, url: str = URL) -> None:
    """Read a page by the preset, and by fields of every type."""
    for fields in (FIELDS, EVERYTHING):
        try:
            extract(html, url, fields)
        except (FieldMissing, PageTooLarge) as error:
            assert len(str(error)) < 10_000


def cpu_s(work: Callable[[], object]) -> float:
    """The CPU seconds that some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def grows(work: Callable[[str], object], make: Maker) -> None:
    """Fail if the time grows faster than n log n. What looks so is looked at again: a neighbour may have taken the cache."""
    small, large = make(SMALL), make(SMALL * FACTOR)
    work(small)
    for _ in range(4):
        first, second = cpu_s(partial(work, small)), cpu_s(partial(work, large))
        if second <= MOST_GROWTH * max(first, TICK_S / FACTOR):
            return
    pytest.fail(f"{first:.3f} CPU seconds for {SMALL} characters, {second:.3f} for {FACTOR} times as many")


@contextmanager
def most_memory() -> Iterator[None]:
    """Fail if what runs inside takes too much memory, libxml2's too."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kib(status)
    yield
    took = (_peak_kib(status) - before) / 1024
    assert took < MOST_MIB, f"{took:.0f} MiB"


def _peak_kib(status: Path) -> int:
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    assert peak is not None
    return int(peak[1])


@pytest.mark.parametrize("name", PAGES)
def test_time_grows_with_the_page(name: str) -> None:
    """Whatever is repeated or nested."""
    grows(read, PAGES[name])


@pytest.mark.parametrize("name", ADDRESSES)
def test_time_grows_with_the_address(name: str) -> None:
    """Its numbers are looked for on the page."""
    grows(partial(read, "<h1>x</h1>" + "<p>1234567 x</p>" * 2_000), ADDRESSES[name])


def _largest(make: Maker) -> str:
    """The page of the largest size that isn't refused for its number of tags or values."""
    size = MOST_CHARACTERS - 100_000 if FULL else MOST_CHARACTERS // 16
    while True:
        html = make(size)
        try:
            extract(html, URL, compile_fields({"f": {"jsonld": "f", "required": False}}))
        except PageTooLarge:
            size = size * 5 // 8
        else:
            return html


@pytest.mark.parametrize("name", PAGES)
def test_the_largest_pages_take_bounded_time_and_memory(name: str) -> None:
    """The preset takes under 2 CPU seconds and 300 MiB for any page that is read at all."""
    body = _largest(PAGES[name]).encode()
    with most_memory():
        took = min(cpu_s(partial(_preset, body)) for _ in range(1 if FULL else 2))
    assert took < (MOST_CPU_S if FULL else MOST_CPU_S / 4), f"{took:.1f} CPU seconds for {len(body)} bytes"


def _preset(body: bytes) -> None:
    try:
        extract(decode(body, None)[0], URL, FIELDS)
    except PageTooLarge as error:
        assert str(error)


@pytest.mark.parametrize("name", BODIES)
def test_time_grows_with_what_is_decoded(name: str) -> None:
    """Charsets and refreshes are found, and bytes decoded, in linear time."""

    def work(text: str) -> None:
        for header in (None, "text/html; charset=shift_jis", "text/html; charset=windows-1252"):
            meta_refresh_target(decode(text.encode("latin-1"), header)[0], URL)

    grows(work, BODIES[name])


@pytest.mark.parametrize("name", HEADERS)
def test_time_grows_with_the_content_type(name: str) -> None:
    """A header may have any length."""
    grows(lambda header: decode(b"\xe9", header), HEADERS[name])


def test_a_page_over_the_budget_is_refused_with_the_number_and_the_limit() -> None:
    """The error says of what there is too much, and how much is read."""
    says = {
        "the page has 8,388,616 characters, over the 8,388,608 that are read": "<h1>x" + "y" * 8_388_611,
        "the page has some 700,000 tags, over the 150,000 that are read": "<p>x" * 700_000,
        "an element has over 2,000 attributes, which is more than is read": PAGES["attributes"](200_000),
        "the page's JSON-LD has some 666,676 values, over the 120,000 that are read": PAGES["empty objects"](1_000_000),
    }
    for message, html in says.items():
        with pytest.raises(PageTooLarge) as refused:
            extract(html, URL, FIELDS)
        assert str(refused.value) == message
