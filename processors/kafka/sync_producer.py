"""Writes to the engine's topics, acknowledged by Kafka before a command says that it is done."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.errors import DeliveryFailed
from processors.kafka.record import Headers

_ACKNOWLEDGED_WITHIN_S = 30


class SyncProducer:
    """An idempotent producer that counts what Kafka has."""

    def __init__(self, client: Mapping[str, str]) -> None:
        self.sent = 0
        #: Where Kafka put the record that it acknowledged last.
        self.last_offset = -1
        self._failed: KafkaError | None = None
        self._producer = Producer(
            {
                "acks": "all",
                "enable.idempotence": True,
                # librdkafka's default hashes keys otherwise than every other client of these topics.
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": _ACKNOWLEDGED_WITHIN_S * 1000,
                "linger.ms": 5,
                "log_level": 0,
                **client,
            }
        )

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = -1,
        headers: Headers = (),
    ) -> None:
        """Hand over one record; partition -1: by its key. Raises DeliveryFailed for an earlier one that failed."""
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=self._delivered, headers=_wire(headers)
                )
                break
            except BufferError:
                # The producer's queue is full: wait for acknowledgements.
                self._producer.poll(0.5)
                self._check()
            except KafkaException as error:
                raise DeliveryFailed(f"{topic}: {error.args[0].str()}") from error
        self._producer.poll(0)
        self._check()

    def finish(self) -> int:
        """Wait until Kafka has everything; return how many records that is. Raises DeliveryFailed."""
        left = self._producer.flush(_ACKNOWLEDGED_WITHIN_S + 5)
        self._check()
        if left:
            raise DeliveryFailed(
                f"Kafka has acknowledged {self.sent} records, and not {left} more; is it reachable? Send those again."
            )
        return self.sent

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.sent += 1
            self.last_offset = message.offset() or 0
        else:
            self._failed = error

    def _check(self) -> None:
        if self._failed is not None:
            raise DeliveryFailed(
                f"Kafka has acknowledged {self.sent} records, then refused one: {self._failed.str()}. "
                "Those that are missing can be sent again: the same job starts only once."
            )


def _wire(headers: Headers) -> list[tuple[str, str | bytes | None]]:
    return list(headers)
