"""Intake: turns each request on scrape.urls into a submission on scrape.events, or into a dead letter with the reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from processors.errors import BadRecord, ConfigurationError
from processors.kafka.producer import Outgoing, partition_for
from processors.kafka.publish import Sender
from processors.kafka.record import Batch, Record
from processors.messages.dead_letters import contained, dead_letter
from processors.messages.scrape_request import (
    ScrapeRequest,
    check_job_id,
    content_hash,
    derived_job_id,
    identified,
    read_request,
    request_of,
    requested_address,
)
from processors.messages.wire import encode_event
from processors.observability import metrics
from processors.observability.tracing import Tracing, context_in
from processors.saga.events import Submitted
from processors.saga.plan import Plan
from processors.saga.state import Origin
from processors.settings.settings import Settings
from schemas.codec import UndecodableMessage
from schemas.registry import RegistryNotInstalled, RegistryReader, RegistryUnavailable, is_framed
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

DEFAULT_PIPELINE = "default"
# A restart of the registry takes seconds; while it is down, it is not asked more often than this.
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0


def registry_reader(settings: Settings) -> RegistryReader | None:
    """Return the reader for requests in Confluent's wire format, if a registry is set. Raises ConfigurationError."""
    if not settings.schema_registry_url:
        return None
    try:
        return RegistryReader(
            settings.schema_registry_url, settings.schema_registry_user, settings.schema_registry_password.reveal()
        )
    except RegistryNotInstalled as error:
        raise ConfigurationError(f"SCRAPESAGA_SCHEMA_REGISTRY_URL: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"SCRAPESAGA_SCHEMA_REGISTRY_URL cannot be used: {error}") from error


class Intake:
    """Accepts requests for the pipelines that it was given; `default` is that of requests that name none.

    Without it that is the only pipeline, else the one named `default`. Raises ConfigurationError if it isn't there.
    With a `registry`, requests in Confluent's wire format are read too.
    """

    def __init__(
        self,
        producer: Sender,
        pipelines: Mapping[str, Plan],
        catalogue: Catalogue,
        default: str = "",
        registry: RegistryReader | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        if default and default not in pipelines:
            known = ", ".join(sorted(pipelines))
            raise ConfigurationError(f"SCRAPESAGA_DEFAULT_PIPELINE: no pipeline {default!r}; there are: {known}.")
        only = next(iter(pipelines)) if len(pipelines) == 1 else DEFAULT_PIPELINE
        self._default = default or only
        self._producer = producer
        self._registry = registry
        self._tracing = tracing
        self._pipelines = pipelines
        self._events = catalogue.events
        self._dead_letters = catalogue.dead_letters

    async def handle(self, batch: Batch) -> None:
        """Accept or set aside every request of a batch, and acknowledge it once Kafka has the outcome."""
        await self._producer.send([await self._outcome(record) for record in batch.records])
        batch.done()

    async def _outcome(self, record: Record) -> Outgoing:
        try:
            request = None
            if self._registry is not None and record.value is not None and is_framed(record.value):
                request = await self._from_registry(self._registry, record.value)
            submitted = contained("intake", record, self.accept, record, request)
            event = contained("intake", record, self._event, submitted)
        except BadRecord as error:
            return dead_letter(self._dead_letters, record, str(error), "intake")
        metrics.accepted.labels(submitted.plan.pipeline).inc()
        return event

    def _event(self, submitted: Submitted) -> Outgoing:
        """Return the event. Raises BadRecord if it is too large for its topic, because values can grow when they are encoded again."""
        key = submitted.job_id.encode()
        partition = partition_for(key, self._events.partitions)
        event = Outgoing(self._events.name, partition, key, encode_event(submitted))
        if event.size_bytes > self._events.max_record_bytes:
            raise BadRecord(
                f"the request takes {event.size_bytes} bytes as an event, and {self._events.name} takes "
                f"{self._events.max_record_bytes}: make its payload smaller, or put large data at a URL"
            )
        return event

    async def _from_registry(self, registry: RegistryReader, value: bytes) -> ScrapeRequest:
        """Wait for the registry without a limit: a registry that is down must not turn requests into dead letters."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return request_of(await registry.decode(value))
            except UndecodableMessage as error:
                raise BadRecord(str(error)) from error
            except RegistryUnavailable as error:
                log.warning("requests wait for the schema registry: %s", error)
                await asyncio.sleep(wait_s)
                wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    def accept(self, record: Record, request: ScrapeRequest | None = None) -> Submitted:
        """Return the submission for a record, or for the request that was read from it. Raises BadRecord."""
        request = request or read_request(record.value, record.key)
        plan = self._plan(request.pipeline)
        address = requested_address(request.url)
        url = identified(address, plan.identity)
        payload = msgspec.json.encode(request.payload, order="deterministic") if request.payload else b""
        job_id = request.job_id or derived_job_id(plan.pipeline, url)
        check_job_id(job_id)
        return Submitted(
            job_id=job_id,
            plan=plan,
            url=url,
            payload=payload,
            content_hash=content_hash(plan.pipeline, url, payload),
            origin=Origin(record.partition, record.offset),
            label=request.label or "",
            trace=self._trace(record, job_id, plan.pipeline),
            address="" if address == url else address,
        )

    def _plan(self, pipeline: str | None) -> Plan:
        if pipeline is None:
            pipeline = self._default
        plan = self._pipelines.get(pipeline)
        if plan is None:
            raise BadRecord(f"no pipeline {pipeline!r}; there are: {', '.join(sorted(self._pipelines))}")
        return plan

    def _trace(self, record: Record, job_id: str, pipeline: str) -> str:
        parent = context_in(record.headers)
        if self._tracing is None:
            return "" if parent is None else str(parent)
        about: dict[str, str | int | float] = {
            "scrapesaga.job_id": job_id,
            "scrapesaga.pipeline": pipeline,
            "messaging.system": "kafka",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        }
        return self._tracing.accepted(parent, str(record), record.timestamp_ms, about)
