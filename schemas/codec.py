"""Avro single-object encoding of the engine's messages: a marker, the schema's fingerprint, the binary value.

No registry is needed: the fingerprint (CRC-64-AVRO of the canonical form, little endian) names the schema, and a reader
holds the schemas of all released versions. Source: Avro specification 1.12, "Single-object encoding".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.encoder import Encoder, compile_encoder

MARKER = b"\xc3\x01"
HEADER_BYTES = 10

#: The engine's messages: one .avsc each, beside this module.
MESSAGES = (
    "scrape_request",
    "submitted",
    "operator_request",
    "timed_out",
    "step_command",
    "step_result",
    "saga_state",
    "spend_entry",
)


class UndecodableMessage(ValueError):
    """Bytes that are no message of ours; says what was expected."""


class Codec:
    """Encodes and decodes one message type; values are mappings shaped as its schema."""

    def __init__(self, name: str, schema: Mapping[str, Any]) -> None:
        self.name = name
        self.schema = schema
        self.fingerprint = bytes.fromhex(fingerprint(to_parsing_canonical_form(cast(Any, schema)), "CRC-64-AVRO"))
        self.header = MARKER + self.fingerprint
        self._parsed = fastavro.parse_schema(cast(Any, dict(schema)))
        self._readers: dict[bytes, Any] = {self.fingerprint: None}

    def add_reader(self, other: Codec) -> None:
        """Let this codec read what another version of its schema wrote."""
        self._readers[other.fingerprint] = other._parsed

    def encoder(
        self,
        fields: Mapping[str, str] | None = None,
        *,
        mapping: bool = False,
        known: Mapping[str, Any] | None = None,
    ) -> Encoder:
        """Return a function that writes what encode() writes, four times as fast, and checks nothing; see encoder.py."""
        return compile_encoder(self.schema, self.header, fields, mapping=mapping, known=known)

    def encode(self, value: Mapping[str, Any]) -> bytes:
        """Return the header and the value. Raises ValueError if the value doesn't fit the schema."""
        out = BytesIO()
        out.write(self.header)
        fastavro.schemaless_writer(out, self._parsed, cast(Any, value))
        return out.getvalue()

    def decode(self, data: bytes) -> dict[str, Any]:
        """Return the value. Raises UndecodableMessage."""
        written_by = data[2:HEADER_BYTES]
        if written_by not in self._readers or data[:2] != MARKER:
            raise UndecodableMessage(f"expected a {self.name}, found {describe(data)}")
        older = self._readers[written_by]
        body = BytesIO(data)
        body.seek(HEADER_BYTES)
        try:
            if older is None:
                value = fastavro.schemaless_reader(body, self._parsed, None)
            else:
                value = fastavro.schemaless_reader(body, older, self._parsed)
        except Exception as error:
            # fastavro raises EOFError, IndexError, UnicodeDecodeError, struct.error and more on damaged bytes.
            raise UndecodableMessage(f"a damaged {self.name}: {error!r}") from error
        return cast(dict[str, Any], value)


def describe(data: bytes) -> str:
    """Say in a few words what bytes look like, for an error message."""
    if data[:2] == MARKER and len(data) >= HEADER_BYTES:
        return f"Avro of a schema that this version doesn't know ({data[2:HEADER_BYTES].hex()})"
    if data[:1] == b"\x00" and len(data) > 5:
        return "what looks like the Confluent wire format"
    return f"{len(data)} bytes that begin with {data[:12]!r}"


def schema_of(name: str) -> dict[str, Any]:
    """Return a message's schema as it lies in the package."""
    text = resources.files("schemas").joinpath(f"{name}.avsc").read_text("utf-8")
    return cast(dict[str, Any], json.loads(text))


@cache
def codec(name: str) -> Codec:
    """Return the codec of a message by name, for example "saga_state".

    It reads what all released versions wrote, and what the next one will write, where that is announced already: while
    processes are replaced one by one, the old ones are handed what the new ones wrote.
    """
    current = Codec(name, schema_of(name))
    folder = resources.files("schemas")
    released = folder.joinpath("released")
    versions = [one for one in released.iterdir() if one.is_dir()]
    for version in (*sorted(versions, key=lambda one: one.name), folder.joinpath("announced")):
        path = version.joinpath(f"{name}.avsc")
        if path.is_file():
            other = Codec(name, json.loads(path.read_text("utf-8")))
            if other.fingerprint != current.fingerprint:
                current.add_reader(other)
    return current


def message_name(data: bytes) -> str | None:
    """Return which message bytes hold, by their fingerprint, or None."""
    return _names().get(data[2:HEADER_BYTES]) if data[:2] == MARKER else None


@cache
def _names() -> dict[bytes, str]:
    return {mark: name for name in MESSAGES for mark in codec(name)._readers}
