"""Bodies: every coding, in any cut, and never more than the limit."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from processors.http.body import (
    BodyGarbled,
    BodyTooLarge,
    BoundedContent,
    UnknownCoding,
    _codings,
)

TEXT = b"".join(b"<li class=price>%d.99</li>" % number for number in range(5000)) + random.Random(7).randbytes(4000)
LIMIT = 1_000_000


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header, as some servers send it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "two members": ("gzip", lambda data: gzip.compress(data[:999]) + gzip.compress(data[999:])),
    "padded": ("gzip", lambda data: gzip.compress(data) + bytes(600)),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "two frames": ("zstd", lambda data: zstandard.compress(data[:999]) + zstandard.compress(data[999:])),
    "chained": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    "identity": ("identity", bytes),
}


def decoded(header: str, data: bytes, cut: int, limit: int = LIMIT) -> bytes:
    """Decode data that arrives in pieces of `cut` bytes."""
    content = BoundedContent(_codings(header), limit)
    for start in range(0, len(data), cut):
        content.feed(data[start : start + cut])
    return content.finish()


@pytest.mark.parametrize("cut", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_survives_every_cut(coding: str, cut: int) -> None:
    """The content comes out whole, wherever the network cuts the body."""
    header, pack = CODINGS[coding]
    assert decoded(header, pack(TEXT), cut) == TEXT


@pytest.mark.parametrize("coding", [name for name in CODINGS if name not in ("identity", "padded")])
def test_a_body_that_ends_early_is_garbled(coding: str) -> None:
    """Half a page is never taken for a page."""
    header, pack = CODINGS[coding]
    with pytest.raises(BodyGarbled):
        decoded(header, pack(TEXT)[:-7], 1000)


@pytest.mark.parametrize("coding", ["gzip", "zlib", "br", "zstd"])
def test_a_body_in_another_coding_is_garbled(coding: str) -> None:
    """A body that isn't what its header says raises our error, not the library's."""
    with pytest.raises(BodyGarbled):
        decoded(CODINGS[coding][0], b"\x00plain text, no compression at all" * 10, 1000)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_limit_holds_to_the_byte(coding: str) -> None:
    """Content of exactly the limit passes, one byte more does not."""
    header, pack = CODINGS[coding]
    assert decoded(header, pack(TEXT), 4096, limit=len(TEXT)) == TEXT
    with pytest.raises(BodyTooLarge):
        decoded(header, pack(TEXT), 4096, limit=len(TEXT) - 1)


@pytest.mark.parametrize("coding", ["gzip", "zlib", "br", "zstd", "chained"])
def test_a_bomb_stays_within_memory(coding: str) -> None:
    """100 MB in a few KB are given up at the limit: memory stays near it, all the data in one chunk or not."""
    header, pack = CODINGS[coding]
    bomb = pack(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(BodyTooLarge):
        decoded(header, bomb, 10**9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * LIMIT


def test_a_frame_that_demands_a_huge_window_is_refused() -> None:
    """A zstd frame can't make the decoder allocate more than the window that the standard allows over HTTP."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(BodyGarbled):
        decoded("zstd", packer.compress(TEXT) + packer.flush(), 1000)


@pytest.mark.parametrize("header", ["compress", "gzip, lzma", "gzip, gzip, gzip"])
def test_codings_that_were_not_offered_are_refused(header: str) -> None:
    """What can't be decoded is named, not archived as it is."""
    with pytest.raises(UnknownCoding, match="offered"):
        decoded(header, b"", 1)


def test_an_empty_body_needs_no_coding() -> None:
    """Servers that announce gzip for nothing at all are forgiven."""
    assert decoded("gzip", b"", 1) == b""
