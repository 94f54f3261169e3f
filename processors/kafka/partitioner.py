"""Kafka's default partitioner, so that every client sends a key to the same partition."""

from __future__ import annotations

from functools import lru_cache
from struct import unpack_from

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


# A job's key is hashed for each of its records; 65,536 keys take ~10 MB.
@lru_cache(maxsize=65_536)
def partition_for(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`, as Java's DefaultPartitioner and aiokafka choose it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 as in org.apache.kafka.common.utils.Utils.murmur2, unsigned."""
    length = len(data)
    whole = length & ~3
    h = _SEED ^ length
    for k in unpack_from(f"<{whole // 4}I", data):
        k = k * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15
