"""Fills the topics of an installation with sagas that ran: every record decided and encoded by the engine's own rules.

No worker runs and nothing is fetched: the answers of steps are made up, and everything that follows from them (states,
commands, copies of results, published records) is what a coordinator and its workers would have written, at the pace at
which the engine carries sagas. So a command of the command line finds here what it finds in production.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from processors.kafka.partitioner import partition_for
from processors.messages.scrape_request import ScrapeRequest, derived_job_id, encode_request
from processors.messages.wire import encode_command, encode_event, encode_saga
from processors.pipeline.plan_store import PIPELINE_KEY, PLAN_KEY
from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, CompensationFailed, Event, Failed, Submitted, Succeeded
from processors.saga.plan import Plan, RetryPolicy, StepPlan, encode_plan, pin
from processors.saga.protocol import advance
from processors.saga.state import Action, Origin, Saga
from topics.catalogue import DEFAULT_STEPS, Catalogue

PIPELINE = "shop-prices"
#: What the engine carries on two cores, see docs/performance.md: so many begin in a second of the log.
SAGAS_PER_S = 600
_GROUP = SAGAS_PER_S // 2
_EVENT_EVERY_MS = 40
_DAY_MS = 86_400_000
_BATCH_LABEL = 2_000
# One in so many has a step that fails, and is compensated; one in so many parks, as its compensation is refused.
FAILS_EVERY = 20
PARKS_EVERY = 500
_PROCESSES = 2
_SHOP = "https://shop.example/catalogue/product"


def plan() -> Plan:
    """The default five steps."""
    retry = RetryPolicy(attempts=5, base_ms=1_000, cap_ms=60_000, total_ms=600_000)
    undo = RetryPolicy(attempts=20, base_ms=1_000, cap_ms=60_000, total_ms=_DAY_MS)
    steps = tuple(
        StepPlan(name, name, "{}", name != "parse", False, 30_000, 600_000, retry, 30_000, undo)
        for name in DEFAULT_STEPS
    )
    return pin(Plan(PIPELINE, "{}", steps, 0, 7 * _DAY_MS))


def url(number: int) -> str:
    """The page of one job."""
    return f"{_SHOP}/{number:08}?utm_source=feed"


def job_id(number: int) -> str:
    """The job of one page, as intake derives it."""
    return derived_job_id(PIPELINE, url(number))


def fill(servers: str, catalogue: Catalogue, sagas: int) -> None:
    """Make the topics, and write `sagas` histories that end now."""
    admin = AdminClient({"bootstrap.servers": servers})
    # By the producer's clock: the hours in which they ran are in the past.
    made = [
        NewTopic(one.name, one.partitions, config={**one.config, "message.timestamp.type": "CreateTime"})
        for one in catalogue
    ]
    for future in admin.create_topics(made).values():
        future.result(30)
    begins_ms = int(time.time() * 1000) - sagas * 1000 // SAGAS_PER_S - 2_000
    _publish_plan(servers, catalogue)
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        for share in [
            pool.submit(_fill_share, servers, catalogue.partitions, catalogue.prefix, sagas, begins_ms, number)
            for number in range(_PROCESSES)
        ]:
            share.result()


def _publish_plan(servers: str, catalogue: Catalogue) -> None:
    producer = Producer({"bootstrap.servers": servers})
    one = plan()
    producer.produce(catalogue.plans.name, encode_plan(one), PLAN_KEY + one.hash.encode())
    producer.produce(catalogue.plans.name, one.hash, PIPELINE_KEY + one.pipeline.encode())
    producer.flush(30)


def _fill_share(servers: str, partitions: int, prefix: str, sagas: int, begins_ms: int, share: int) -> None:
    """Write the jobs whose partitions are this process's; nobody else writes to them, so offsets can be counted."""
    writer = _Writer(servers, Catalogue(prefix=prefix, partitions=partitions))
    for first in range(0, sagas, _GROUP):
        numbers = [
            (number, job)
            for number in range(first, min(first + _GROUP, sagas))
            if partition_for((job := job_id(number)).encode(), partitions) % _PROCESSES == share
        ]
        writer.group(numbers, begins_ms + first * 1000 // SAGAS_PER_S, last=first + _GROUP >= sagas)
    writer.flush()


@dataclass
class _Writer:
    """Intake, coordinator and workers of some partitions."""

    servers: str
    catalogue: Catalogue
    plan: Plan = field(default_factory=plan)
    now_ms: int = 0
    _offsets: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self._producer = Producer(
            {"bootstrap.servers": self.servers, "linger.ms": 50, "queue.buffering.max.messages": 500_000}
        )

    def flush(self) -> None:
        """Return once Kafka has everything."""
        if left := self._producer.flush(120):
            raise TimeoutError(f"Kafka has not acknowledged {left} records")

    def group(self, numbers: list[tuple[int, str]], now_ms: int, *, last: bool) -> None:
        """Carry jobs side by side, an event of each in turn; those of the last group are still under way."""
        self.now_ms = now_ms
        turns = [self._history(number, job, stops=last) for number, job in numbers]
        while turns:
            turns = [turn for turn in turns if next(turn, None)]
            self.now_ms += _EVENT_EVERY_MS

    def _history(self, number: int, job: str, *, stops: bool) -> Iterator[bool]:
        """Let one job run; yield after each event."""
        asked = ScrapeRequest(url(number), PIPELINE, label=f"batch-{number // _BATCH_LABEL}")
        partition = partition_for(job.encode(), self.catalogue.partitions)
        offset = self._put("urls", b"", encode_request(asked), partition)
        label = asked.label or ""
        event: Event = Submitted(job, self.plan, asked.url, b"", f"{number:032x}", Origin(partition, offset), label)
        saga: Saga | None = None
        while True:
            saga, commands = self._coordinate(saga, event, partition)
            if not commands or (stops and len(commands[0].inputs) > 0):
                return
            yield True
            event = self._work(commands[0], number, partition)

    def _coordinate(self, saga: Saga | None, event: Event, partition: int) -> tuple[Saga | None, list[StepCommand]]:
        key = event.job_id.encode()
        offset = self._put("events", key, encode_event(event), partition)
        decision = advance(saga, offset, event, self.now_ms)
        commands = [one for one in decision.commands if isinstance(one, StepCommand)]
        for command in commands:
            self._put(f"{command.step}.commands", key, encode_command(command), partition)
        if decision.changed and decision.saga is not None:
            self._put("sagas", key, encode_saga(decision.saga), partition)
        return decision.saga, commands

    def _work(self, command: StepCommand, number: int, partition: int) -> Event:
        """Answer a command as its worker would, and leave what the worker leaves on the topics."""
        key = command.job_id.encode()
        event = _answer(command, number)
        self._put(f"{command.step}.results", key, encode_event(event), partition)
        if command.step == "notify" and command.action is Action.EXECUTE:
            headers: list[tuple[str, str | bytes | None]] = [("job_id", key), ("run", b"%d" % command.run)]
            self._put("records", key, _OUTPUT % number, partition, headers)
        return event

    def _put(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        partition: int,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> int:
        """Append a record at the present time; return its offset."""
        name = self.catalogue.topic(topic).name
        while True:
            try:
                self._producer.produce(name, value, key, partition, timestamp=self.now_ms, headers=headers or [])
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        offset = self._offsets[name, partition]
        self._offsets[name, partition] = offset + 1
        return offset


# What parse gives of a product page.
_OUTPUT = (
    b'{"data":{"title":"Trekking backpack 45 litres, model %d","price":"129.90","currency":"EUR",'
    b'"sku":"TB-45-OLV","brand":"Northwind","availability":"InStock"}}'
)


def _answer(command: StepCommand, number: int) -> Event:
    where = (command.job_id, command.run, command.step, command.seq)
    parks = number % PARKS_EVERY == 3
    if command.action is Action.COMPENSATE:
        return (
            CompensationFailed(*where, "the page can't be withdrawn: 403", retryable=False)
            if parks
            else Compensated(*where)
        )
    if command.step == "load" and (parks or number % FAILS_EVERY == 7):
        return Failed(*where, "the table has no column availability", False, False)
    return Succeeded(
        *where, b'{"data":{"key":"%s"}}' % command.job_id.encode() if command.step == "notify" else _OUTPUT % number
    )
