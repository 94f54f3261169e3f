"""What the coordinator, intake and steps need of an outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from processors.transport.outbox import Outgoing


class Sender(Protocol):
    """Sends records, and says so only once Kafka has them."""

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Send records; return their offsets once Kafka has acknowledged them all. Raises DeliveryFailed."""
        ...
