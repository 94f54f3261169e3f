"""Runs the commands of one step: many jobs at a time, one command at a time for each job. Every command gets a reply.

Compensations never wait behind new work: commands are taken in well ahead of what runs, and what undoes runs first, on a
budget of its own. A worker never sleeps on a retry: it answers, and the coordinator waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import msgspec

from processors.errors import BadRecord, DeliveryFailed
from processors.kafka.producer import Outgoing, RecordTooLarge
from processors.kafka.publish import Sender
from processors.kafka.record import Batch, Record
from processors.messages.dead_letters import contained, dead_letter
from processors.messages.wire import decode_command, encode_event
from processors.observability import metrics
from processors.observability.tracing import Sink, begin_attempt, current_headers
from processors.pipeline.plan_store import Plans
from processors.roles.attempts import Attempts, MakeStep, planned_step
from processors.roles.failures import Failure, failure_of, unexpected
from processors.roles.reply_batcher import ReplyBatcher
from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, Confirmed, Failed, Reply, Succeeded
from processors.saga.state import Action
from processors.step import Host
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

# Commands that are read ahead, so that compensations behind a backlog of new work are found; about 2 KB each.
QUEUED_COMMANDS = 2_000
# A redelivered command gets its reply from memory; for a job older than this, it runs again with its key.
REMEMBERED_JOBS = 10_000
_SUCCESSES = (Succeeded, Compensated, Confirmed)


@dataclass(slots=True)
class ReceivedCommand:
    """A command with the record that brought it."""

    command: StepCommand
    record: Record
    batch: Batch
    superseded: bool = False
    attempting: bool = False
    repeats: list[tuple[Batch, Record]] = field(default_factory=list)
    """The same command, delivered again before its reply: both are acknowledged together."""


@dataclass(slots=True)
class JobQueue:
    """The memory of one job: commands of one job never overlap."""

    seq: int = 0
    reply: tuple[Outgoing, ...] = ()
    waiting: list[ReceivedCommand] = field(default_factory=list)
    running: ReceivedCommand | None = None
    task: asyncio.Task[None] | None = None

    def unanswered(self) -> Iterator[ReceivedCommand]:
        """The jobs with commands that have no reply yet."""
        if self.running is not None:
            yield self.running
        yield from self.waiting


class _StepMetrics:
    """The metrics of one step, looked up once, because a look-up costs as much as an increment."""

    def __init__(self, step: str, running: Callable[[], float]) -> None:
        metrics.in_flight.labels(step).set_function(running)
        self._step = step
        self._times: dict[tuple[Action, bool], Callable[[float], None]] = {}
        self.queued = metrics.queue_seconds.labels(step).observe

    def took(self, action: Action, succeeded: bool, seconds: float) -> None:
        """Count an attempt."""
        observe = self._times.get((action, succeeded))
        if observe is None:
            outcome = "succeeded" if succeeded else "failed"
            observe = metrics.step_seconds.labels(self._step, action, outcome).observe
            self._times[action, succeeded] = observe
        observe(seconds)


class StepWorker:
    """The worker of one step name, for all plans that have a step of that name."""

    def __init__(
        self,
        step: str,
        host: Host,
        producer: Sender,
        plans: Plans,
        catalogue: Catalogue,
        *,
        max_in_flight: int = 64,
        make_step: MakeStep = planned_step,
        spans: Sink | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.step = step
        self._producer = producer
        self._events = catalogue.events
        self._results = catalogue.results(step).name
        self._dead_letters = catalogue.dead_letters
        self._limit = max_in_flight
        self._attempts = Attempts(step, host, plans, make_step)
        self._spans = spans
        self._clock = clock
        self._replies = ReplyBatcher(producer, self._stop_for)
        self._metrics = _StepMetrics(step, lambda: sum(self._running.values()))
        self._queues: dict[str, JobQueue] = {}
        # Their names, in the order in which they came.
        self._met: deque[str] = deque()
        self._doing: deque[JobQueue] = deque()
        self._undoing: deque[JobQueue] = deque()
        self._running = {Action.EXECUTE: 0, Action.COMPENSATE: 0, Action.CONFIRM: 0}
        self._queued = 0
        self._room = asyncio.Event()
        self._crash: Exception | None = None
        self._serving: asyncio.Task[None] | None = None

    async def serve(self, batches: AsyncIterator[Batch]) -> None:
        """Run until the batches end; raises DeliveryFailed as soon as a reply could not be sent."""
        self._serving = asyncio.current_task()
        try:
            async for batch in batches:
                for record in batch.records:
                    await self._take(record, batch)
                while self._queued > QUEUED_COMMANDS:
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            if self._crash is None or self._serving is None:
                raise
            self._serving.uncancel()
            raise self._crash from None
        if self._crash is not None:
            raise self._crash

    def _stop_for(self, error: Exception) -> None:
        """Stop because a command has no reply: at once, because the next batch may never come."""
        if self._crash is None:
            self._crash = error
            if self._serving is not None:
                self._serving.cancel()

    async def close(self) -> None:
        """Close the steps' connections."""
        await self._attempts.close()

    # --- taking commands in ---------------------------------------------------------------------------------------

    async def _take(self, record: Record, batch: Batch) -> None:
        try:
            command = contained(self.step, record, decode_command, record.value)
            if command.step != self.step:
                raise BadRecord(f"a command for step {command.step!r} on the topic of {self.step!r}")
        except BadRecord as error:
            await self._producer.send([dead_letter(self._dead_letters, record, str(error), f"step {self.step}")])
            batch.done_one(record)
            return
        queue = self._queues.get(command.job_id)
        if queue is None:
            queue = self._remember(command.job_id)
        received = ReceivedCommand(command, record, batch)
        if command.seq <= queue.seq:
            await self._repeat(received, queue)
            return
        queue.seq, queue.reply = command.seq, ()
        self._supersede(queue)
        queue.waiting.append(received)
        self._queued += 1
        self._schedule(queue)

    def _remember(self, job_id: str) -> JobQueue:
        """Create a queue, and forget the oldest one if it is idle."""
        queue = self._queues[job_id] = JobQueue()
        self._met.append(job_id)
        if len(self._met) > REMEMBERED_JOBS:
            oldest = self._met.popleft()
            if self._queues[oldest].running is None and not self._queues[oldest].waiting:
                del self._queues[oldest]
            else:
                self._met.append(oldest)
        return queue

    async def _repeat(self, received: ReceivedCommand, queue: JobQueue) -> None:
        """Handle a repeated command: the latest gets its reply from memory; an older one gets none, because it was answered."""
        unanswered = next((one for one in queue.unanswered() if one.command.seq == received.command.seq), None)
        if unanswered is not None:
            # If it were acknowledged now, a crash before the reply would lose the command.
            unanswered.repeats.append((received.batch, received.record))
            return
        if received.command.seq == queue.seq and queue.reply:
            await self._producer.send(queue.reply)
        received.batch.done_one(received.record)

    def _supersede(self, queue: JobQueue) -> None:
        """A later command of the same job supersedes earlier actions: drop waiting ones, stop the running one."""
        for received in queue.waiting:
            if received.command.action is Action.EXECUTE:
                received.superseded = True
        running = queue.running
        if running is not None and running.command.action is Action.EXECUTE and queue.task is not None:
            running.superseded = True
            # Cancel only the attempt: if a task is cancelled before it starts, or while it sends its reply, its command gets
            # no reply, and its job waits for ever.
            if running.attempting:
                queue.task.cancel()

    def _schedule(self, queue: JobQueue) -> None:
        if queue.running is not None or not queue.waiting:
            return
        undoes = queue.waiting[0].command.action is not Action.EXECUTE or queue.waiting[0].superseded
        (self._undoing if undoes else self._doing).append(queue)
        self._start_some()

    def _start_some(self) -> None:
        while self._undoing and self._busy(undoing=True) < self._limit:
            self._start(self._undoing.popleft())
        while self._doing and self._busy(undoing=False) < self._limit:
            self._start(self._doing.popleft())

    def _busy(self, *, undoing: bool) -> int:
        if undoing:
            return self._running[Action.COMPENSATE] + self._running[Action.CONFIRM]
        return self._running[Action.EXECUTE]

    def _start(self, queue: JobQueue) -> None:
        if queue.running is not None or not queue.waiting:
            return
        received = queue.waiting.pop(0)
        self._queued -= 1
        queue.running = received
        self._running[received.command.action] += 1
        queue.task = asyncio.ensure_future(self._work(received, queue))

    # --- working ----------------------------------------------------------------------------------------------------

    async def _work(self, received: ReceivedCommand, queue: JobQueue) -> None:
        try:
            records = await self._answer(received)
        except asyncio.CancelledError:
            # The worker stops. Without a reply, Kafka delivers the command again to the next owner of the partition.
            raise
        except DeliveryFailed as error:
            # The command has no reply: stop, and commit nothing after it, so that it is delivered again.
            self._stop_for(error)
        else:
            queue.reply = records if received.command.seq == queue.seq else ()
            # The queue of the job is busy until Kafka has the reply; the slot for running commands is free now.
            self._replies.give(records, partial(self._acknowledge, received, queue))
        finally:
            queue.task = None
            self._running[received.command.action] -= 1
            self._start_some()

    def _acknowledge(self, received: ReceivedCommand, queue: JobQueue) -> None:
        received.batch.done_one(received.record)
        for batch, record in received.repeats:
            batch.done_one(record)
        queue.running = None
        self._after(queue)

    def _after(self, queue: JobQueue) -> None:
        if queue.waiting:
            self._schedule(queue)
        if self._queued <= QUEUED_COMMANDS:
            self._room.set()

    async def _answer(self, received: ReceivedCommand) -> tuple[Outgoing, ...]:
        """Return the records of the reply to a command: an error of one command is its own failure."""
        try:
            return self._outgoing(received, *await self._reply_to(received))
        except DeliveryFailed:
            raise
        except Exception as error:
            metrics.unexpected_errors.labels(self.step).inc()
            log.exception(
                "replying to a command raised an error", extra={"job_id": received.command.job_id, "step": self.step}
            )
            return self._outgoing(received, self._failed(received.command, unexpected(error)), 0)

    async def _reply_to(self, received: ReceivedCommand) -> tuple[Reply, int]:
        """Run a command; return the reply and the duration in microseconds."""
        command = received.command
        queued_s = max(0.0, self._clock() - received.record.timestamp_ms / 1000)
        self._metrics.queued(queued_s)
        traced = begin_attempt(self._spans, command, received.record.headers, received.record.topic, queued_s * 1000)
        started = time.perf_counter()
        # Not started here. An earlier owner of the partition may have started it and died without a reply, so its outcome
        # is unknown.
        if received.superseded:
            reply: Reply = self._failed(command, _unknown("superseded, not started by this worker"))
        elif command.expires_ms and self._clock() * 1000 > command.expires_ms:
            reply = self._failed(command, _unknown("expired in the queue"))
        else:
            reply = await self._attempt(received)
            if isinstance(reply, Failed) and not reply.outcome_unknown and received.batch.inherited(received.record):
                # This attempt had no effect; an attempt of an earlier owner that died before its reply may have had one.
                reply = msgspec.structs.replace(reply, outcome_unknown=True)
        took = time.perf_counter() - started
        self._metrics.took(command.action, isinstance(reply, _SUCCESSES), took)
        if traced is not None:
            traced.end(reply)
        return reply, int(took * 1_000_000)

    async def _attempt(self, received: ReceivedCommand) -> Reply:
        command = received.command
        received.attempting = True
        try:
            return await self._attempts.perform(command, received.record.partition)
        except asyncio.CancelledError:
            if not received.superseded:
                raise
            # Stopped in the middle: it may have had its effect.
            return self._failed(command, _unknown("superseded while it ran"))
        except Exception as error:
            if isinstance(error, DeliveryFailed) and not isinstance(error, RecordTooLarge):
                raise
            failure = failure_of(error)
            if not failure.expected:
                metrics.unexpected_errors.labels(self.step).inc()
                log.exception(
                    "a step raised an unexpected error",
                    extra={"job_id": command.job_id, "step": self.step, "seq": command.seq},
                )
            return self._failed(command, failure)
        finally:
            received.attempting = False

    def _failed(self, command: StepCommand, failure: Failure) -> Reply:
        """Return the reply to a command that failed."""
        return failure.reply(command)

    def _outgoing(self, received: ReceivedCommand, reply: Reply, took_us: int) -> tuple[Outgoing, ...]:
        command, record = received.command, received.record
        value = encode_event(reply, attempt=command.attempt, took_us=took_us, label=command.label, trace=command.trace)
        headers = current_headers()
        # The same bytes for the coordinator and for readers of the results topic.
        event = Outgoing(self._events.name, record.partition, record.key, value, headers)
        if event.size_bytes > self._events.max_record_bytes:
            # Only a command of another client can be so large without its outputs.
            reason = (
                f"its answer takes {event.size_bytes} bytes, and {event.topic} takes {self._events.max_record_bytes}"
            )
            return (dead_letter(self._dead_letters, record, reason, f"step {self.step}"),)
        return event, event._replace(topic=self._results)


def _unknown(reason: str) -> Failure:
    """Return the failure of an attempt whose effect is unknown."""
    return Failure(reason, retryable=True, outcome_unknown=True)
