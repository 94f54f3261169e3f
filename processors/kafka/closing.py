"""Closes a consumer of aiokafka quietly, also while the broker is away."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close the connections.

    aiokafka cancels its fetch, and while the broker is away it lets that cancellation out to whoever closes, as if that
    one had been cancelled: a process that stopped in order ended with a traceback, and its exit code said that it hadn't.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # What stop() would have come to next.
        await consumer._client.close()
