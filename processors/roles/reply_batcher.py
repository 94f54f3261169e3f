"""Sends the replies to many commands together: at once at low load; at high load, all replies since the last send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from processors.kafka.producer import Outgoing
from processors.kafka.publish import Sender


class ReplyBatcher:
    """One send at a time. `on_failure` is called with the reason if replies could not be sent."""

    def __init__(self, producer: Sender, on_failure: Callable[[Exception], None]) -> None:
        self._producer = producer
        self._on_failure = on_failure
        self._waiting: list[tuple[Sequence[Outgoing], Callable[[], None]]] = []
        self._sending: asyncio.Task[None] | None = None

    def give(self, records: Sequence[Outgoing], given: Callable[[], None]) -> None:
        """Send the records of one reply; `given` is called when Kafka has acknowledged them, never otherwise."""
        self._waiting.append((records, given))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        while self._waiting:
            giving, self._waiting = self._waiting, []
            try:
                await self._producer.send([record for records, _ in giving for record in records])
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would learn of it
                self._on_failure(error)
                continue
            for _, given in giving:
                given()
