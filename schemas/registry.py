"""Records in Confluent's wire format, with their schemas in a schema registry.

Needs the extra `scrapesaga[registry]`; without a registry, records travel in Avro single-object encoding.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from schemas.record import RecordSchema

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

# https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
_MAGIC = 0
_SINGLE_OBJECT_HEADER_BYTES = 10
_ANSWER_SECONDS = 10
_FOR_GOOD = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})


class RegistryNotInstalled(Exception):
    """The registry's client is not installed: pip install 'scrapesaga[registry]'."""


class RegistryUnavailable(Exception):
    """The registry does not answer, or not to us: to be tried again."""


class SchemaRefused(Exception):
    """The registry does not take the schema, for example as it is incompatible with the one before."""


class RegistryCodec:
    """Encodes records with the ids that a registry gives to their schemas, looked up or registered once each.

    A schema's subject is its full name (Confluent's RecordNameStrategy), as the records of several pipelines with
    schemas of their own share one topic.
    """

    content_type = "application/avro;encoding=confluent"

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise RegistryNotInstalled(
                f"a schema registry is set, but its client is not installed ({error}): "
                f"pip install 'scrapesaga[registry]'"
            ) from error
        # Retries are the saga's: a client that waits would hold a worker's slot, unseen.
        settings: dict[str, object] = {"url": url, "timeout": _ANSWER_SECONDS, "max.retries": 0}
        if user:
            settings["basic.auth.user.info"] = f"{user}:{password}"
        self._url = url
        self._client: SchemaRegistryClient = SchemaRegistryClient(settings)
        self._ids: dict[str, int] = {}
        self._asking = asyncio.Lock()

    async def encode(self, schema: RecordSchema, record: Mapping[str, object]) -> bytes:
        """The record, which must come from `schema.conform`; raises RegistryUnavailable or SchemaRefused."""
        if schema.text not in self._ids:
            async with self._asking:
                if schema.text not in self._ids:
                    self._ids[schema.text] = await asyncio.to_thread(self._id_of, schema)
        return struct.pack(">bI", _MAGIC, self._ids[schema.text]) + schema.encode(record)[_SINGLE_OBJECT_HEADER_BYTES:]

    def _id_of(self, schema: RecordSchema) -> int:
        from confluent_kafka.schema_registry import Schema, SchemaRegistryError

        wanted = Schema(schema.text, "AVRO")
        try:
            try:
                known = self._client.lookup_schema(schema.name, wanted).schema_id
            except SchemaRegistryError as error:
                if error.http_status_code != HTTPStatus.NOT_FOUND:
                    raise
                known = None
            # Looked up first: who may only read can still publish under a schema that others registered.
            return known if known is not None else self._client.register_schema(schema.name, wanted)
        except SchemaRegistryError as error:
            told = f"schema registry {self._url}, subject {schema.name}: {error.error_message} ({error.error_code})"
            raise (SchemaRefused if error.http_status_code in _FOR_GOOD else RegistryUnavailable)(told) from error
        except Exception as error:
            # The client lets its HTTP library's errors through, and which library that is depends on its version.
            raise RegistryUnavailable(f"schema registry {self._url} does not answer: {error}") from error
