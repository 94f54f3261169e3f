"""What people ask for on scrape.urls: a request in Avro, in JSON, or just a URL; and the job that it stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from processors.errors import BadRecord
from processors.http.url import BadUrl, address_of
from processors.saga.plan import Identity
from schemas.codec import MARKER, UndecodableMessage, codec
from schemas.registry import is_framed

MAX_JOB_ID_CHARS = 200
# Python's parsers give up somewhere between 500 and 1,000, by how deep their caller already is.
_TOO_DEEP = "a payload nested too deep: keep it below 500 levels"


class ScrapeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for one URL. `payload` is free-form for the steps; `label` names a batch in reports."""

    url: str
    pipeline: str | None = None
    job_id: str | None = None
    payload: dict[str, Any] | None = None
    label: str | None = None


def read_request(value: bytes | None, key: bytes | None) -> ScrapeRequest:
    """Return the request in a record of scrape.urls: Avro single-object, JSON, or a bare URL. Raises BadRecord."""
    if not value:
        raise BadRecord("an empty record: expected a ScrapeRequest (Avro or JSON) or a URL")
    if value.startswith(MARKER):
        return _from_avro(value)
    if is_framed(value):
        raise BadRecord("the record is in Confluent's wire format: set SCRAPESAGA_SCHEMA_REGISTRY_URL to read it")
    text = value.strip()
    if text.startswith(b"{"):
        try:
            return msgspec.json.decode(text, type=ScrapeRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRecord(f"not a ScrapeRequest: {error}") from error
        except RecursionError as error:
            raise BadRecord(_TOO_DEEP) from error
    if text[:8].lower().startswith((b"http://", b"https://")):
        try:
            return ScrapeRequest(url=text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadRecord(f"a URL that is not UTF-8: {error}") from error
    raise BadRecord(f"expected a ScrapeRequest (Avro or JSON) or a URL, found {value[:20]!r}")


def _from_avro(value: bytes) -> ScrapeRequest:
    try:
        fields = codec("scrape_request").decode(value)
    except UndecodableMessage as error:
        raise BadRecord(f"not a ScrapeRequest: {error}") from error
    return request_of(fields)


def request_of(fields: Mapping[str, object]) -> ScrapeRequest:
    """Return the request in an Avro record, whosever schema it has: fields by name, others ignored. Raises BadRecord."""
    found = {name: fields.get(name) for name in ScrapeRequest.__struct_fields__}
    try:
        if isinstance(found["payload"], str):
            found["payload"] = msgspec.json.decode(found["payload"], type=dict[str, Any])
        return msgspec.convert(found, ScrapeRequest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadRecord(f"not a ScrapeRequest: {error}") from error
    except RecursionError as error:
        raise BadRecord(_TOO_DEEP) from error


def encode_request(request: ScrapeRequest) -> bytes:
    """Return the Avro form, for clients of ours."""
    fields = msgspec.structs.asdict(request)
    if request.payload is not None:
        fields["payload"] = msgspec.json.encode(request.payload).decode()
    return codec("scrape_request").encode(fields)


def requested_address(url: str) -> str:
    """Return what is requested for a URL that was submitted: see processors/http/url.py. Raises BadRecord."""
    try:
        return address_of(url)
    except BadUrl as error:
        raise BadRecord(str(error)) from error


def canonical_url(url: str, identity: Identity | msgspec.UnsetType = msgspec.UNSET) -> str:
    """Return the one form of a URL that identifies a job. Raises BadRecord for what can't be fetched.

    It is what would be requested: two URLs are one job only if a server sees the same request. What else is one, the
    pipeline says by `identity`. This defines job identity: changing it makes known pages look new.
    """
    return identified(requested_address(url), identity)


def identified(address: str, identity: Identity | msgspec.UnsetType) -> str:
    """Return the canonical URL of an address: without arguments to ignore, in the order that the pipeline wants."""
    if identity is msgspec.UNSET:
        return address
    place, _, query = address.partition("?")
    arguments = [(_name(argument), argument) for argument in query.split("&")]
    kept = [
        (name, argument)
        for name, argument in arguments
        if not any(fnmatchcase(name, pattern) for pattern in identity.ignore)
    ]
    if identity.sort_query:
        # By name alone, and stable: of arguments with the same name the order may matter all the more.
        kept.sort(key=lambda one: one[0])
    if len(kept) == len(arguments) and not identity.sort_query:
        return address
    sorted_query = "&".join(argument for _, argument in kept)
    return f"{place}?{sorted_query}" if sorted_query else place


def _name(argument: str) -> str:
    return unquote_plus(argument.partition("=")[0])


def derived_job_id(pipeline: str, url: str) -> str:
    """Return the identity of a job that was given none: its pipeline and canonical URL."""
    digest = hashlib.sha256(f"{pipeline}\0{url}".encode()).hexdigest()
    return f"{pipeline}-{digest[:24]}"


def check_job_id(job_id: str) -> None:
    """Refuse an identity that can't be a key in keys, headers and log lines. Raises BadRecord."""
    if not job_id or len(job_id) > MAX_JOB_ID_CHARS or not job_id.isprintable():
        raise BadRecord(f"job_id {job_id[:50]!r}: 1 to {MAX_JOB_ID_CHARS} printable characters")


def content_hash(pipeline: str, url: str, payload: bytes) -> str:
    """Return what tells two requests of the same job_id apart."""
    return hashlib.sha256(b"\0".join((pipeline.encode(), url.encode(), payload))).hexdigest()[:32]
