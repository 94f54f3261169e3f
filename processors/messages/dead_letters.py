"""What is set aside: a record that can't be understood or was refused, with everything needed to find and mend it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from processors.errors import BadRecord
from processors.kafka.producer import Outgoing
from processors.kafka.record import Headers, Record, header_values
from processors.observability import metrics
from processors.saga.reason import bounded_reason
from topics.catalogue import Topic

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_KEY_BYTES = 100_000


class LetterSource(NamedTuple):
    """Where the record of a dead letter lay, and why it was set aside."""

    topic: str
    partition: int
    offset: int
    reason: str


def source_of(headers: Headers) -> LetterSource | None:
    """Return where the record of a dead letter lay, by its headers; None if they are not those of a dead letter."""
    about = header_values(headers)
    try:
        partition, offset = int(about["dead-letter-partition"]), int(about["dead-letter-offset"])
    except (KeyError, ValueError):
        return None
    topic, reason = about.get("dead-letter-topic", b""), about.get("dead-letter-reason", b"")
    return LetterSource(topic.decode("utf-8", "replace"), partition, offset, reason.decode("utf-8", "replace"))


def contained(processor: str, record: Record, handle: Callable[..., T], *arguments: object) -> T:
    """Return handle(*arguments); whatever it raises concerns this record alone, so it is raised as BadRecord.

    For what a record's own bytes decide. What asks Kafka or a table stays outside: its errors are nobody's record, and
    the record has to be delivered again.
    """
    try:
        return handle(*arguments)
    except BadRecord:
        raise
    except Exception as error:
        metrics.unexpected_errors.labels(processor).inc()
        log.exception("a record raised an error; it goes to the dead-letter topic", extra={"record": str(record)})
        raise BadRecord(f"unexpected error: {error!r}") from error


def dead_letter(topic: Topic, record: Record, reason: str, processor: str) -> Outgoing:
    """Return the dead letter of a record: its bytes, key and headers untouched, with where it lay and what was wrong.

    A record that the dead-letter topic can't take, such as one that was small only while it was compressed, is named by
    size and sha256 instead: the original lies where the headers say.
    """
    metrics.dead_letters.labels(record.topic).inc()
    about = {
        "dead-letter-reason": bounded_reason(reason).encode(),
        "dead-letter-topic": record.topic.encode(),
        "dead-letter-partition": str(record.partition).encode(),
        "dead-letter-offset": str(record.offset).encode(),
        "dead-letter-timestamp": str(record.timestamp_ms).encode(),
        "dead-letter-first-seen": str(int(time.time() * 1000)).encode(),
        "dead-letter-processor": processor.encode(),
    }
    letter = Outgoing(
        topic=topic.name,
        # Any will do: those of one source partition stay together, and in order.
        partition=record.partition % topic.partitions,
        key=record.key,
        value=record.value,
        headers=(*record.headers, *about.items()),
    )
    if letter.size_bytes <= topic.max_record_bytes:
        return letter
    whole = hashlib.sha256(record.value or b"").hexdigest()
    about["dead-letter-left-out"] = f"{len(record.value or b'')} bytes, sha256 {whole}".encode()
    key = record.key if len(record.key or b"") <= _LONGEST_KEY_BYTES else None
    return letter._replace(key=key, value=None, headers=tuple(about.items()))
