"""Records of other versions of a schema, as this version would write them.

While processes are replaced one by one, the same state is written in two encodings. They say the same if this one does.
"""

from __future__ import annotations

from schemas.codec import HEADER_BYTES, UndecodableMessage, codec, message_name


def reencoded(value: bytes) -> bytes:
    """Return a message in the present encoding; what is in it already, or is no message of ours, as it is."""
    name = message_name(value)
    if name is None or value[:HEADER_BYTES] == codec(name).header:
        return value
    try:
        return codec(name).encode(codec(name).decode(value))
    except (UndecodableMessage, ValueError):
        return value
