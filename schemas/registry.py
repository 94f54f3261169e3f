"""Records and requests in Confluent's wire format, with their schemas in a schema registry.

Needs the extra `scrapesaga[registry]`; without a registry, they travel in Avro single-object encoding. The engine's own
messages always do: to start again, to audit and to replay it must need nothing but Kafka.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, cast

import fastavro

from schemas.codec import UndecodableMessage
from schemas.record import RecordSchema

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

# https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
_MAGIC = 0
_FRAME_BYTES = 5
_SINGLE_OBJECT_HEADER_BYTES = 10
_ANSWER_SECONDS = 10
_FOR_GOOD = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})


class RegistryNotInstalled(Exception):
    """The registry's client is not installed: pip install 'scrapesaga[registry]'."""


class RegistryUnavailable(Exception):
    """The registry does not answer, or not to us: to be tried again."""


class SchemaRefused(Exception):
    """The registry does not take the schema, for example as it is incompatible with the one before."""


def is_framed(value: bytes) -> bool:
    """Whether bytes look like Confluent's wire format: a zero, then a schema's id in four bytes."""
    return value[:1] == b"\0" and len(value) > _FRAME_BYTES


class RegistryCodec:
    """Encodes records with the ids that a registry gives to their schemas, looked up or registered once each.

    A schema's subject is its full name (Confluent's RecordNameStrategy), as the records of several pipelines with
    schemas of their own share one topic.
    """

    content_type = "application/avro;encoding=confluent"

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self._url = url
        self._client = _client(url, user, password)
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


class RegistryReader:
    """Decodes what any producer wrote in Confluent's wire format, by the schema that it was written with.

    A schema is asked for once: an id means the same for ever.
    """

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self._url = url
        self._client = _client(url, user, password)
        self._writers: dict[int, object] = {}

    async def decode(self, value: bytes) -> Mapping[str, object]:
        """The record as its writer's schema names its fields; raises UndecodableMessage or RegistryUnavailable."""
        (number,) = struct.unpack_from(">I", value, 1)
        if number not in self._writers:
            self._writers[number] = await asyncio.to_thread(self._schema, number)
        body = BytesIO(value[_FRAME_BYTES:])
        try:
            record = fastavro.schemaless_reader(body, cast("dict[str, object]", self._writers[number]), None)
        except Exception as error:
            # fastavro promises no exception type for damaged bytes.
            raise UndecodableMessage(f"damaged Avro of the registry's schema {number}: {error!r}") from error
        if not isinstance(record, dict):
            raise UndecodableMessage(f"the registry's schema {number} is no record")
        return cast("dict[str, object]", record)

    def _schema(self, number: int) -> object:
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            found = self._client.get_schema(number)
        except SchemaRegistryError as error:
            told = f"schema registry {self._url}, schema {number}: {error.error_message} ({error.error_code})"
            unknown = error.http_status_code == HTTPStatus.NOT_FOUND
            raise (UndecodableMessage if unknown else RegistryUnavailable)(told) from error
        except Exception as error:
            # As above: whichever HTTP library it is.
            raise RegistryUnavailable(f"schema registry {self._url} does not answer: {error}") from error
        try:
            return fastavro.parse_schema(json.loads(found.schema_str or ""))
        except Exception as error:
            # Protobuf and JSON Schema, references to other subjects, and whatever else is registered there.
            raise UndecodableMessage(f"the registry's schema {number} is no Avro that can be read: {error}") from error


def _client(url: str, user: str, password: str) -> SchemaRegistryClient:
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise RegistryNotInstalled(
            f"a schema registry is set, but its client is not installed ({error}): pip install 'scrapesaga[registry]'"
        ) from error
    # Retries are the caller's: a client that waits would hold a worker's slot, unseen.
    settings: dict[str, object] = {"url": url, "timeout": _ANSWER_SECONDS, "max.retries": 0}
    if user:
        settings["basic.auth.user.info"] = f"{user}:{password}"
    return SchemaRegistryClient(settings)
