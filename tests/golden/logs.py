"""Golden logs: the topics of one run, a file of JSON lines for each, packed with zstd.

Each line is a record: partition, offset, the broker's timestamp, key and value (base64), headers where there are any.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from processors.auditor.scope import Scope
from processors.kafka.record import Record
from processors.operations.queries import plan_book
from processors.operations.verification import Verification, verify_records
from topics.catalogue import Catalogue

SUFFIX = ".jsonl.zst"
#: What is replayed: the plans, the events, and what followed from them.
PLANS, EVENTS, SAGAS, COMMANDS = "plans", "events", "sagas", ".commands"


def is_golden(topic: str) -> bool:
    """Whether a topic, by its short name, belongs into a golden log."""
    return topic in (PLANS, EVENTS, SAGAS) or topic.endswith(COMMANDS)


def write(folder: Path, topic: str, records: Iterable[Record]) -> int:
    """Write one topic; return how many records it has."""
    lines = [json.dumps(_line(record), separators=(",", ":")) for record in records]
    folder.mkdir(parents=True, exist_ok=True)
    packed = zstandard.ZstdCompressor(level=19).compress("".join(f"{line}\n" for line in lines).encode())
    (folder / f"{topic}{SUFFIX}").write_bytes(packed)
    return len(lines)


def read(folder: Path, topic: str) -> Iterator[Record]:
    """Yield the records of one topic."""
    text = zstandard.decompress((folder / f"{topic}{SUFFIX}").read_bytes()).decode()
    for line in text.splitlines():
        one = json.loads(line)
        headers = tuple((name, base64.b64decode(value)) for name, value in one.get("headers", ()))
        yield Record(
            topic, one["partition"], one["offset"], one["timestamp"], _bytes(one["key"]), _bytes(one["value"]), headers
        )


def topics(folder: Path) -> tuple[str, ...]:
    """Return the topics of a golden log."""
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")))


def replay(folder: Path) -> Verification:
    """Decide the events again by the rules of this checkout, and compare each state and command byte for byte."""
    commands = [topic for topic in topics(folder) if topic.endswith(COMMANDS)]
    events = [_named(record) for record in read(folder, EVENTS)]
    others = [_named(record) for topic in (SAGAS, *commands) for record in read(folder, topic)]
    partitions = 1 + max(record.partition for record in events)
    catalogue = Catalogue(partitions=partitions, steps=tuple(one.removesuffix(COMMANDS) for one in commands))
    # Nothing was removed by the time that it was recorded.
    scope = Scope(catalogue, dict.fromkeys(range(partitions), 0))
    return verify_records(scope, plan_book(read(folder, PLANS)), events, others)


def _named(record: Record) -> Record:
    """Return a record with its topic as it is on Kafka."""
    return record._replace(topic=f"scrape.{record.topic}")


def _line(record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": _text(record.key),
        "value": _text(record.value),
    }
    if record.headers:
        line["headers"] = [[name, _text(value)] for name, value in record.headers]
    return line


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
