"""Intake: turns requests on scrape.urls into submissions on scrape.events, or into dead letters that say why not."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from processors import metrics
from processors.dead_letters import dead_letter
from processors.errors import BadRecord, ConfigurationError
from processors.requests import canonical_url, check_job_id, content_hash, derived_job_id, read_request
from processors.saga.events import Submitted
from processors.saga.plan import Plan
from processors.saga.state import Origin
from processors.sender import Sender
from processors.transport.outbox import Outgoing, partition_for
from processors.transport.record import Batch, Record
from processors.wire import encode_event
from topics.catalogue import Catalogue

DEFAULT_PIPELINE = "default"


class Intake:
    """Accepts requests for the pipelines that it was given; `default` is that of requests that name none.

    Without it that is the only pipeline, else the one named `default`. Raises ConfigurationError if it isn't there.
    """

    def __init__(
        self, outbox: Sender, pipelines: Mapping[str, Plan], catalogue: Catalogue, default: str = ""
    ) -> None:
        if default and default not in pipelines:
            known = ", ".join(sorted(pipelines))
            raise ConfigurationError(f"SCRAPESAGA_DEFAULT_PIPELINE: no pipeline {default!r}; there are: {known}.")
        only = next(iter(pipelines)) if len(pipelines) == 1 else DEFAULT_PIPELINE
        self._default = default or only
        self._outbox = outbox
        self._pipelines = pipelines
        self._events = catalogue.events
        self._dead_letters = catalogue.dead_letters

    async def handle(self, batch: Batch) -> None:
        """Accept or set aside every request of a batch, and acknowledge it once Kafka has the outcome."""
        await self._outbox.send([self._outcome(record) for record in batch.records])
        batch.done()

    def _outcome(self, record: Record) -> Outgoing:
        try:
            submitted = self.accept(record)
        except BadRecord as error:
            return dead_letter(self._dead_letters, record, str(error), "intake")
        metrics.accepted.labels(submitted.plan.pipeline).inc()
        key = submitted.job_id.encode()
        partition = partition_for(key, self._events.partitions)
        return Outgoing(self._events.name, partition, key, encode_event(submitted))

    def accept(self, record: Record) -> Submitted:
        """Return the submission that a request stands for. Raises BadRecord."""
        request = read_request(record.value, record.key)
        plan = self._plan(request.pipeline)
        url = canonical_url(request.url)
        payload = msgspec.json.encode(request.payload, order="deterministic") if request.payload else b""
        job_id = request.job_id or derived_job_id(plan.pipeline, url)
        check_job_id(job_id)
        return Submitted(
            job_id=job_id,
            plan=plan,
            url=url,
            payload=payload,
            content=content_hash(plan.pipeline, url, payload),
            origin=Origin(record.partition, record.offset),
            label=request.label or "",
            trace=_trace(record),
        )

    def _plan(self, pipeline: str | None) -> Plan:
        if pipeline is None:
            pipeline = self._default
        plan = self._pipelines.get(pipeline)
        if plan is None:
            raise BadRecord(f"no pipeline {pipeline!r}; there are: {', '.join(sorted(self._pipelines))}")
        return plan


def _trace(record: Record) -> str:
    for name, value in record.headers:
        if name == "traceparent":
            return value.decode("ascii", "ignore")
    return ""
