"""Response bodies with a limit that holds after decompression: a bomb is given up at the limit, not after it."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
import httpx
import zstandard

from processors.errors import ScrapesagaError
from processors.redaction.secret_search import redact_known

#: What a request may offer; each of these is understood below.
ACCEPT_ENCODING = "gzip, deflate, br, zstd"
#: How much one call into a decompressor may return.
PIECE_BYTES = 64 * 1024
#: zstandard can't be told how much to return at most. A block is at least 4 bytes and at most 128 KiB when decoded,
#: so 32 bytes of input give about 1 MiB; larger slices are faster (32 bytes: 20 us a KiB) and overshoot more.
ZSTD_SLICE_BYTES = 32
#: What RFC 9659 lets senders ask for; without it a frame may demand 2 GiB.
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
#: How much longer than its content an encoded body may be: incompressible data grows a little.
SLACK_BYTES = 64 * 1024
#: Codings that exist (IANA's registry, and what is met beside it) and were not offered: such a body is no page.
_NOT_OFFERED = frozenset(
    "aes128gcm bzip2 bz2 compress dcb dcz exi lz4 lzma lzip lzo pack200-gzip sdch snappy xz xpress zip zopfli "
    "base64 quoted-printable uuencode".split()
)
_NO_CODING = frozenset("identity none null nil undefined false no off plain binary 7bit 8bit raw default".split())
#: How much of a body is looked at to tell text from something encoded.
_LOOKED_AT_BYTES = 1_024
# What the MIME sniffing standard calls binary data bytes: no text has them, hardly any compressed data lacks them.
_BINARY = bytes({*range(0x20)} - {*b"\t\n\f\r\x1b"})
#: Servers that apply a coding twice exist, none that do it three times is known.
MAX_CODINGS = 2


class BodyTooLarge(ScrapesagaError):
    """The decompressed body is larger than the limit."""


class BodyGarbled(ScrapesagaError):
    """The body ends early or isn't in the coding that its header says."""


class UnknownCoding(ScrapesagaError):
    """The Content-Encoding is one that was not offered."""


async def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the decompressed body of a streamed response, reading no further than `max_bytes` of it.

    Raises BodyTooLarge, BodyGarbled or UnknownCoding, and httpx's errors.
    """
    codings = _codings(response.headers.get("content-encoding", ""))
    declared = response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes + (SLACK_BYTES if codings else 0):
        raise BodyTooLarge(f"the body has {declared} bytes, the limit is {max_bytes}")
    content = BoundedContent(codings, max_bytes)
    async for chunk in response.aiter_raw():
        content.feed(chunk)
    body = content.finish()
    header = response.headers.get("content-encoding", "")
    if _has_unknown_word(header) and body[:_LOOKED_AT_BYTES].translate(None, _BINARY) != body[:_LOOKED_AT_BYTES]:
        raise UnknownCoding(f"Content-Encoding {redact_known(header)[:100]!r} is unknown, and the body is no text")
    return body


class BoundedContent:
    """Undoes a chain of content codings piece by piece, counting what every stage gives out."""

    def __init__(self, codings: list[str], max_bytes: int) -> None:
        self._stages = [_DECODERS[coding]() for coding in reversed(codings)]
        self._limits = [max_bytes + SLACK_BYTES] * len(codings) + [max_bytes]
        self._counts = [0] * len(self._limits)
        self._max_bytes = max_bytes
        self._content = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Decode a chunk as it came from the network. Raises BodyTooLarge or BodyGarbled."""
        try:
            for piece in self._through(0, chunk):
                self._content += piece
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise BodyGarbled(f"the body is not in the coding that Content-Encoding says: {error}") from error

    def finish(self) -> bytes:
        """Return the whole content. Raises BodyGarbled if a coding ends early."""
        # Some servers announce a coding for a body that is empty.
        if self._counts[0] and not all(stage.complete for stage in self._stages):
            raise BodyGarbled("the body ends before its coding does")
        return bytes(self._content)

    def _through(self, stage: int, data: bytes) -> Iterator[bytes]:
        self._counts[stage] += len(data)
        if self._counts[stage] > self._limits[stage]:
            raise BodyTooLarge(f"the body is larger than the limit of {self._max_bytes} bytes")
        if stage == len(self._stages):
            yield data
            return
        for piece in self._stages[stage].feed(data):
            yield from self._through(stage + 1, piece)


def _codings(header: str) -> list[str]:
    """Return the codings to undo, first applied first; what names none doesn't count. Raises UnknownCoding."""
    names = _names(header)
    codings = [name for name in names if name in _DECODERS]
    if len(codings) > MAX_CODINGS or not _NOT_OFFERED.isdisjoint(names):
        raise UnknownCoding(
            f"Content-Encoding {redact_known(header)[:100]!r} was not offered (offered: {ACCEPT_ENCODING})"
        )
    return codings


def _names(header: str) -> list[str]:
    parts = (part.partition(";")[0].strip(" \t\"'").lower().removeprefix("x-") for part in header.split(","))
    return [part for part in parts if part]


def _has_unknown_word(header: str) -> bool:
    """Whether there is a word in the header that is neither a coding nor known to mean none.

    Servers write there what belongs elsewhere: a charset, a transfer encoding, a media type, the word for nothing in
    their language. Then the body is as it is.
    """
    return any(name not in _DECODERS and name not in _NO_CODING and not _is_charset(name) for name in _names(header))


def _is_charset(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False


class _Decoder(Protocol):
    @property
    def complete(self) -> bool: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Gzip:
    """One or more gzip members; what follows the last one and isn't a member is ignored, as gzip itself does."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._members = 0
        self._fresh = True

    @property
    def complete(self) -> bool:
        return self._members > 0 and self._fresh

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            try:
                for piece in _pieces(self._member, data):
                    self._fresh = False
                    yield piece
            except zlib.error:
                if self._members and self._fresh:
                    return  # padding after the last member
                raise
            data = b""
            if self._member.eof:
                data = self._member.unused_data
                self._members += 1
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
                self._fresh = True


class _Deflate:
    """zlib as the standard says, or raw deflate as some servers send."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: zlib._Decompress | None = None

    @property
    def complete(self) -> bool:
        return self._inner is not None and self._inner.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            # RFC 1950: the low nibble is the method (8), the first two bytes are a multiple of 31.
            standard = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if standard else -zlib.MAX_WBITS)
        if not self._inner.eof:
            yield from _pieces(self._inner, data)


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def complete(self) -> bool:
        return bool(self._inner.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inner.is_finished():
            return
        while True:
            piece = self._inner.process(data, output_buffer_limit=PIECE_BYTES)
            data = b""
            if piece:
                yield piece
            # Content may be left behind though all input is taken: only an empty piece says that there is none.
            if self._inner.is_finished() or (not piece and self._inner.can_accept_more_data()):
                return


class _Zstd:
    def __init__(self) -> None:
        self._frames = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._frame = self._new()
        self._started = False

    @property
    def complete(self) -> bool:
        return not self._started

    def feed(self, data: bytes) -> Iterator[bytes]:
        position = 0
        while position < len(data):
            taken = data[position : position + ZSTD_SLICE_BYTES]
            position += len(taken)
            self._started = True
            piece = self._frame.decompress(taken)
            if piece:
                yield piece
            if self._frame.eof:
                position -= len(self._frame.unused_data)
                self._frame = self._new()
                self._started = False

    def _new(self) -> zstandard.ZstdDecompressionObj:
        # A small write size comes from the heap; the default of 128 KiB is mapped and unmapped on each call.
        return self._frames.decompressobj(write_size=32 * 1024)


def _pieces(inner: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = inner.decompress(data, PIECE_BYTES)
        data = inner.unconsumed_tail
        if piece:
            yield piece
        # A full piece may have left more behind, even with no input left. At the end what is left is `unused_data`, and
        # `unconsumed_tail` may still hold it too.
        if inner.eof or (not data and len(piece) < PIECE_BYTES):
            return


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
