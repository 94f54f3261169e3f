"""What is set aside: a record that can't be understood or was refused, with everything needed to find and mend it."""

from __future__ import annotations

import time

from processors.kafka.producer import Outgoing
from processors.kafka.record import Record
from processors.observability import metrics
from topics.catalogue import Topic

# A poisoned record may be as large as its topic allows; its error must not push it over the dead-letter topic's limit.
MAX_REASON_BYTES = 2_000


def dead_letter(topic: Topic, record: Record, reason: str, processor: str) -> Outgoing:
    """Return the dead letter of a record: its bytes, key and headers untouched, with where it lay and what was wrong."""
    metrics.dead_letters.labels(record.topic).inc()
    about = {
        "dead-letter-reason": reason.encode()[:MAX_REASON_BYTES],
        "dead-letter-topic": record.topic.encode(),
        "dead-letter-partition": str(record.partition).encode(),
        "dead-letter-offset": str(record.offset).encode(),
        "dead-letter-timestamp": str(record.timestamp_ms).encode(),
        "dead-letter-first-seen": str(int(time.time() * 1000)).encode(),
        "dead-letter-processor": processor.encode(),
    }
    return Outgoing(
        topic=topic.name,
        # Any will do: those of one source partition stay together, and in order.
        partition=record.partition % topic.partitions,
        key=record.key,
        value=record.value,
        headers=(*record.headers, *about.items()),
    )
