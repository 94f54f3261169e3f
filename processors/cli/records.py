"""Any record of the engine's topics, decoded for people: what it is, whose, and the gist of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.cli import show
from processors.errors import BadRecord
from processors.kafka.record import Record, header_values
from processors.messages.scrape_request import read_request
from processors.redaction import one_line
from schemas.codec import UndecodableMessage, codec, message_name
from schemas.registry import is_framed


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record, and what was understood of it; `message` is "" for what is none of the engine's messages."""

    record: Record
    message: str
    fields: Mapping[str, Any]

    @property
    def job_id(self) -> str:
        """Whose it is: as the message says, else a header of the record, else empty."""
        said = self.fields.get("job_id")
        return str(said) if said else self.header("job-id")

    @property
    def label(self) -> str | None:
        """The label in the message; None if it has none."""
        label = self.fields.get("label")
        return None if label is None else str(label)

    def header(self, name: str) -> str:
        """Return a header as text; empty if there is none."""
        return header_values(self.record.headers).get(name, b"").decode("utf-8", "replace")

    def gist(self) -> str:
        """Return what happened, in a few words."""
        about = self.fields
        match self.message:
            case "scrape_request":
                return f"request {about['url']}"
            case "submitted":
                return f"submitted to {about['pipeline']}, plan {about['plan_hash']}: {about['url']}"
            case "operator_request":
                return f"{about['kind']} by {about['by']} {about['from_step']} {about['reason']}".rstrip()
            case "timed_out":
                return f"timer of seq {about['seq']}"
            case "step_command":
                return f"{about['action']} {about['step']} run {about['run']} seq {about['seq']} #{about['attempt']}"
            case "step_result":
                said = f"{about['action']} {about['step']} seq {about['seq']} {about['outcome']}"
                return f"{said}: {about['reason']}" if about["reason"] else said
            case "saga_state":
                at = show.under_way(about, ())
                return f"{about['phase']} run {about['run']} seq {about['seq']} {at} {about['reason']}".rstrip()
            case _:
                return _unread(self.record.value)

    def line(self) -> str:
        """Return one line: time, place, gist; for a dead letter why it is one."""
        why = self.header("dead-letter-reason")
        after = f"  dead letter: {why}" if why else ""
        return one_line(f"{show.moment(self.record.timestamp_ms)}  {self.record}  {self.gist()}{after}")

    def json(self) -> str:
        """Return all of it as one line of JSON."""
        record = self.record
        return show.as_json(
            {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "time": show.moment(record.timestamp_ms),
                "key": record.key,
                "headers": dict(record.headers),
                "message": self.message or None,
                "value": self.fields or record.value,
            }
        )


def _unread(value: bytes | None) -> str:
    """Return what can be said of bytes that are no message of ours."""
    if value is None:
        return "tombstone"
    registered = f" of the registry's schema {int.from_bytes(value[1:5])}" if is_framed(value) else ""
    return f"{len(value)} bytes{registered}"


def decode(record: Record) -> Decoded:
    """Return what a record says; never fails: an audit shows damaged records too."""
    value = record.value
    if value is None:
        return Decoded(record, "", {})
    name = message_name(value)
    try:
        if name is not None:
            return Decoded(record, name, codec(name).decode(value))
        if value.lstrip()[:1] in (b"{", b"h"):
            request = read_request(value, record.key)
            return Decoded(record, "scrape_request", {f: getattr(request, f) for f in request.__struct_fields__})
    except (UndecodableMessage, BadRecord):
        pass
    return Decoded(record, "", {})
