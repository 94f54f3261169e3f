"""Runs the commands of one step: many jobs at a time, one command at a time for each job, every command answered.

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
from datetime import timedelta
from functools import partial

import msgspec

from processors.errors import BadRecord, ConfigurationError, DeliveryFailed, RetryLater, StepFailed
from processors.kafka.producer import Outgoing
from processors.kafka.publish import Sender
from processors.kafka.record import Batch, Record
from processors.messages.dead_letters import dead_letter
from processors.messages.wire import decode_command, encode_event
from processors.observability import metrics
from processors.observability.tracing import Sink, begin_attempt, current_headers
from processors.pipeline.plan_store import Plans, UnknownPlan
from processors.roles.attempts import Attempts, MakeStep, planned_step
from processors.roles.reply_batcher import Answers
from processors.saga.commands import StepCommand
from processors.saga.events import Confirmed, Failed, Reply, Succeeded, Undone
from processors.saga.replies import failed
from processors.saga.state import Action
from processors.step import Host
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

# Taken in ahead of what runs, so that a compensation is found behind a backlog of new work; some 2 KB each.
QUEUED_COMMANDS = 2_000
# A redelivered or repeated command is answered from memory; a job older than this is simply done again by its key.
REMEMBERED_JOBS = 10_000
_SUCCESSES = (Succeeded, Undone, Confirmed)


@dataclass(slots=True)
class Job:
    """A command with the record that brought it."""

    command: StepCommand
    record: Record
    batch: Batch
    superseded: bool = False
    attempting: bool = False
    repeats: list[tuple[Batch, Record]] = field(default_factory=list)
    """The same command, delivered again before it was answered: acknowledged with it, not before."""


@dataclass(slots=True)
class Lane:
    """What is known of one job here: commands of one job never overlap."""

    seq: int = 0
    reply: tuple[Outgoing, ...] = ()
    waiting: list[Job] = field(default_factory=list)
    running: Job | None = None
    task: asyncio.Task[None] | None = None

    def unanswered(self) -> Iterator[Job]:
        """The jobs taken in and not answered yet."""
        if self.running is not None:
            yield self.running
        yield from self.waiting


class _StepMetrics:
    """The metrics of one step, looked up once: a look-up costs as much as the counting."""

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


class StepRunner:
    """The worker of one step name, for all plans that have a step of that name."""

    def __init__(
        self,
        step: str,
        host: Host,
        outbox: Sender,
        plans: Plans,
        catalogue: Catalogue,
        *,
        max_in_flight: int = 64,
        make_step: MakeStep = planned_step,
        spans: Sink | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.step = step
        self._outbox = outbox
        self._events = catalogue.events.name
        self._results = catalogue.results(step).name
        self._dead_letters = catalogue.dead_letters
        self._limit = max_in_flight
        self._attempts = Attempts(step, host, plans, make_step)
        self._spans = spans
        self._clock = clock
        self._answers = Answers(outbox, self._stop_for)
        self._metrics = _StepMetrics(step, lambda: sum(self._running.values()))
        self._lanes: dict[str, Lane] = {}
        # Their names, those first met first.
        self._met: deque[str] = deque()
        self._doing: deque[Lane] = deque()
        self._undoing: deque[Lane] = deque()
        self._running = {Action.EXECUTE: 0, Action.COMPENSATE: 0, Action.CONFIRM: 0}
        self._queued = 0
        self._room = asyncio.Event()
        self._crash: Exception | None = None
        self._serving: asyncio.Task[None] | None = None

    async def serve(self, batches: AsyncIterator[Batch]) -> None:
        """Run until the batches end; raises DeliveryFailed as soon as an answer could not be given."""
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
        """Stop serving because a command has no answer: at once, for the next batch may never come."""
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
            command = decode_command(record.value)
            if command.step != self.step:
                raise BadRecord(f"a command for step {command.step!r} on the topic of {self.step!r}")
        except BadRecord as error:
            await self._outbox.send([dead_letter(self._dead_letters, record, str(error), f"step {self.step}")])
            batch.done_one(record)
            return
        lane = self._lanes.get(command.job_id)
        if lane is None:
            lane = self._remember(command.job_id)
        job = Job(command, record, batch)
        if command.seq <= lane.seq:
            await self._repeat(job, lane)
            return
        lane.seq, lane.reply = command.seq, ()
        self._supersede(lane)
        lane.waiting.append(job)
        self._queued += 1
        self._schedule(lane)

    def _remember(self, job_id: str) -> Lane:
        """Make a lane, and forget the one that has been there longest, if nothing goes on in it."""
        lane = self._lanes[job_id] = Lane()
        self._met.append(job_id)
        if len(self._met) > REMEMBERED_JOBS:
            oldest = self._met.popleft()
            if self._lanes[oldest].running is None and not self._lanes[oldest].waiting:
                del self._lanes[oldest]
            else:
                self._met.append(oldest)
        return lane

    async def _repeat(self, job: Job, lane: Lane) -> None:
        """Answer a command that was seen already: the latest from memory, an older one not at all (it was answered)."""
        unanswered = next((one for one in lane.unanswered() if one.command.seq == job.command.seq), None)
        if unanswered is not None:
            # Acknowledged now, a crash before the answer would lose the command.
            unanswered.repeats.append((job.batch, job.record))
            return
        if job.command.seq == lane.seq and lane.reply:
            await self._outbox.send(lane.reply)
        job.batch.done_one(job.record)

    def _supersede(self, lane: Lane) -> None:
        """A later command of the same job makes earlier actions pointless: drop those that wait, stop the one that runs."""
        for job in lane.waiting:
            if job.command.action is Action.EXECUTE:
                job.superseded = True
        running = lane.running
        if running is not None and running.command.action is Action.EXECUTE and lane.task is not None:
            running.superseded = True
            # Only the attempt may be cut off: a task that is cancelled before it began, or while it sends its answer,
            # would leave its command without one, and its job waiting for ever.
            if running.attempting:
                lane.task.cancel()

    def _schedule(self, lane: Lane) -> None:
        if lane.running is not None or not lane.waiting:
            return
        undoes = lane.waiting[0].command.action is not Action.EXECUTE or lane.waiting[0].superseded
        (self._undoing if undoes else self._doing).append(lane)
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

    def _start(self, lane: Lane) -> None:
        if lane.running is not None or not lane.waiting:
            return
        job = lane.waiting.pop(0)
        self._queued -= 1
        lane.running = job
        self._running[job.command.action] += 1
        lane.task = asyncio.ensure_future(self._work(job, lane))

    # --- working ----------------------------------------------------------------------------------------------------

    async def _work(self, job: Job, lane: Lane) -> None:
        try:
            reply = await self._answer(job)
            answer = self._outgoing(job, *reply)
        except asyncio.CancelledError:
            # The worker stops. Without an answer the command is delivered again, to whoever owns the partition.
            raise
        except Exception as error:
            # Whatever it is, the command has no answer: stop, commit nothing past it, let it be delivered again.
            self._stop_for(error)
        else:
            lane.reply = answer if job.command.seq == lane.seq else ()
            # The lane is taken until Kafka has the answer; the place among those that work is free now.
            self._answers.give(answer, partial(self._answered, job, lane))
        finally:
            lane.task = None
            self._running[job.command.action] -= 1
            self._start_some()

    def _answered(self, job: Job, lane: Lane) -> None:
        job.batch.done_one(job.record)
        for batch, record in job.repeats:
            batch.done_one(record)
        lane.running = None
        self._after(lane)

    def _after(self, lane: Lane) -> None:
        if lane.waiting:
            self._schedule(lane)
        if self._queued <= QUEUED_COMMANDS:
            self._room.set()

    async def _answer(self, job: Job) -> tuple[Reply, int]:
        """Do what the command says; return the reply and the microseconds that it took."""
        command = job.command
        queued_s = max(0.0, self._clock() - job.record.timestamp_ms / 1000)
        self._metrics.queued(queued_s)
        traced = begin_attempt(self._spans, command, job.record.headers, job.record.topic, queued_s * 1000)
        started = time.perf_counter()
        # Not started here; an earlier owner of the partition may have begun it and died without a word, so nobody can say
        # that it had no effect.
        if job.superseded:
            reply: Reply = self._failed(command, "superseded, not started by this worker", retryable=True, unknown=True)
        elif command.expires_ms and self._clock() * 1000 > command.expires_ms:
            reply = self._failed(command, "expired in the queue", retryable=True, unknown=True)
        else:
            reply = await self._attempt(job)
            if isinstance(reply, Failed) and not reply.unknown and job.batch.inherited(job.record):
                # Our attempt had no effect; that of an owner who died before answering may have had one.
                reply = msgspec.structs.replace(reply, unknown=True)
        took = time.perf_counter() - started
        self._metrics.took(command.action, isinstance(reply, _SUCCESSES), took)
        if traced is not None:
            traced.end(reply)
        return reply, int(took * 1_000_000)

    async def _attempt(self, job: Job) -> Reply:
        command = job.command
        job.attempting = True
        try:
            return await self._attempts.perform(command, job.record.partition)
        except asyncio.CancelledError:
            if not job.superseded:
                raise
            # Stopped in the middle: it may have worked.
            return self._failed(command, "superseded while it ran", retryable=True, unknown=True)
        except TimeoutError:
            return self._failed(command, "the attempt ran out of time", retryable=True, unknown=True)
        except StepFailed as error:
            return self._failed(command, error.reason, unknown=error.effect_unknown)
        except RetryLater as error:
            return self._failed(command, error.reason, retryable=True, unknown=error.effect_unknown, after=error.after)
        except DeliveryFailed:
            raise
        except (ConfigurationError, UnknownPlan) as error:
            # A worker that lacks a plugin or a secret is mended by a person; the retries give them time.
            return self._failed(command, f"{type(error).__name__}: {error}", retryable=True)
        except Exception as error:
            metrics.surprises.labels(self.step).inc()
            log.exception("a step raised", extra={"job_id": command.job_id, "step": self.step, "seq": command.seq})
            return self._failed(command, f"surprise: {error!r}"[:2_000], retryable=True, unknown=True)
        finally:
            job.attempting = False

    def _failed(
        self,
        command: StepCommand,
        reason: str,
        *,
        retryable: bool = False,
        unknown: bool = False,
        after: timedelta | None = None,
    ) -> Reply:
        """Return the reply of a command that did not work."""
        after_ms = max(0, after // timedelta(milliseconds=1)) if after else 0
        return failed(command, reason, retryable=retryable, unknown=unknown, after_ms=after_ms)

    def _outgoing(self, job: Job, reply: Reply, took_us: int) -> tuple[Outgoing, ...]:
        command, record = job.command, job.record
        value = encode_event(reply, attempt=command.attempt, took_us=took_us, label=command.label, trace=command.trace)
        headers = current_headers()
        # The same bytes for the coordinator and for whoever follows this step: one topic decides, the other tells.
        return (
            Outgoing(self._events, record.partition, record.key, value, headers),
            Outgoing(self._results, record.partition, record.key, value, headers),
        )
