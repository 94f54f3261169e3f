"""What the engine offers to steps in a worker: Kafka, secrets, settings, counters."""

from __future__ import annotations

from collections.abc import Mapping

from processors.kafka.credentials import Security
from processors.kafka.log import KafkaLog, PageReader
from processors.kafka.producer import Producer
from processors.kafka.publish import publish
from processors.observability import metrics
from processors.observability.log_format import redact_from_logs
from processors.observability.tracing import current_headers
from processors.settings.settings import Settings
from processors.step import Address
from topics.catalogue import Catalogue


class EngineHost:
    """The Host of one step's worker."""

    def __init__(
        self, step: str, settings: Settings, security: Security, catalogue: Catalogue, producer: Producer
    ) -> None:
        self._step = step
        self._settings = settings
        self._catalogue = catalogue
        self._producer = producer
        self._client = {"bootstrap.servers": settings.bootstrap_servers, **security.for_confluent()}
        self._pages = PageReader(self._client)
        self._logs: list[KafkaLog] = []

    async def publish(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> Address:
        """Append a record to a topic by its short name. Raises StepFailed if it is too large, DeliveryFailed."""
        about = (*(headers or {}).items(), *current_headers())
        return await publish(self._producer, self._catalogue.topic(topic), partition, key, value, about)

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value at an address, checked. Raises RecordGone."""
        return await self._pages.read(address, key)

    def log(self, topic: str) -> KafkaLog:
        """Open a single-partition topic by its short name; each call reads from the beginning, with a place of its own."""
        log = KafkaLog(self._catalogue.topic(topic).name, self._producer, self._client)
        self._logs.append(log)
        return log

    def secret(self, name: str) -> str:
        """Return a secret. Raises ConfigurationError."""
        value = self._settings.secret(name)
        redact_from_logs((value,))
        return value

    def setting(self, name: str, default: str = "") -> str:
        """Return the setting SCRAPESAGA_<NAME>."""
        return self._settings.text(name, default)

    def count(self, metric: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter: one of the engine's, or a custom one."""
        counter = metrics.STEP_COUNTERS.get(metric)
        if counter is None:
            metrics.custom.labels(self._step, metric).inc(amount)
        else:
            counter.labels(**{"step": self._step, **labels}).inc(amount)

    async def close(self) -> None:
        """Close connections."""
        await self._pages.close()
        for log in self._logs:
            await log.close()
