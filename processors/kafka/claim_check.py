"""A claim check, redeemed: the record that lies at an address has to be the one that was archived there."""

from __future__ import annotations

import hashlib

from processors.errors import RecordGone
from processors.step import Address


def redeemed(address: Address, key: bytes, offset: int, found_key: bytes | None, value: bytes | None) -> bytes:
    """Return the value of the record that was found, checked by offset, key, size and sha256. Raises RecordGone."""
    where = f"{address.topic}-{address.partition}@{address.offset}"
    # Kafka answers a read of a compacted-away offset with the next record, silently.
    if offset != address.offset or found_key != key or value is None:
        raise RecordGone(f"{where} is gone: its retention is over, or it was deleted; fetch the page again")
    if len(value) != address.size_bytes or hashlib.sha256(value).hexdigest() != address.sha256:
        raise RecordGone(f"{where} isn't what was archived: size or sha256 differ")
    return value
