"""Runs the commands of one step: many jobs at a time, one command at a time for each job, every command answered.

Compensations never wait behind new work: commands are taken in well ahead of what runs, and what undoes runs first, on a
budget of its own. A worker never sleeps on a retry: it answers, and the coordinator waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from processors import metrics
from processors.dead_letters import dead_letter
from processors.errors import BadRecord, ConfigurationError, DeliveryFailed, RetryLater, StepFailed
from processors.pipeline import find_step, load_params
from processors.plans import Plans, UnknownPlan
from processors.saga.commands import StepCommand
from processors.saga.events import Confirmed, ConfirmFailed, Failed, Reply, Succeeded, UndoFailed, Undone
from processors.saga.plan import Plan, StepPlan
from processors.saga.state import Action
from processors.sender import Sender
from processors.step import NOTHING_TO_UNDO, Host, Step, StepCall, StepOutput
from processors.tracing import Sink, begin_attempt, current_headers
from processors.transport.outbox import Outgoing
from processors.transport.record import Batch, Record
from processors.wire import decode_command, encode_event
from topics.catalogue import Catalogue

log = logging.getLogger(__name__)

# Taken in ahead of what runs, so that a compensation is found behind a backlog of new work; some 2 KB each.
QUEUED_COMMANDS = 2_000
# A redelivered or repeated command is answered from memory; a job older than this is simply done again by its key.
REMEMBERED_JOBS = 10_000
# An event carries one output, a state all of them: see the limits of their topics.
MAX_OUTPUT_BYTES = 256 * 1024
MAX_OUTPUTS_BYTES = 3 * 1024 * 1024


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
    waiting: deque[Job] = field(default_factory=deque)
    running: Job | None = None
    task: asyncio.Task[None] | None = None

    def unanswered(self) -> Iterator[Job]:
        """The jobs taken in and not answered yet."""
        if self.running is not None:
            yield self.running
        yield from self.waiting


#: Makes the step that a plan names, on a host.
MakeStep = Callable[[StepPlan, Host], Step]


def planned_step(planned: StepPlan, host: Host) -> Step:
    """Return the installed step that a plan names, with the parameters that it pinned. Raises PipelineError."""
    return find_step(planned.use)(planned.name, load_params(planned), host)


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
        self._host = host
        self._outbox = outbox
        self._plans = plans
        self._events = catalogue.events.name
        self._results = catalogue.results(step).name
        self._dead_letters = catalogue.dead_letters
        self._limit = max_in_flight
        self._make_step = make_step
        self._spans = spans
        self._clock = clock
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._doing: deque[Lane] = deque()
        self._undoing: deque[Lane] = deque()
        self._running = {Action.EXECUTE: 0, Action.COMPENSATE: 0, Action.CONFIRM: 0}
        self._queued = 0
        self._room = asyncio.Event()
        self._instances: dict[tuple[str, str], asyncio.Task[Step]] = {}
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
        for opening in self._instances.values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().close()

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
            lane = self._lanes[command.job_id] = Lane()
        job = Job(command, record, batch)
        if command.seq <= lane.seq:
            await self._repeat(job, lane)
            return
        lane.seq, lane.reply = command.seq, ()
        self._supersede(lane)
        lane.waiting.append(job)
        self._queued += 1
        self._schedule(lane)

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
        job = lane.waiting.popleft()
        self._queued -= 1
        lane.running = job
        self._running[job.command.action] += 1
        metrics.in_flight.labels(self.step).inc()
        lane.task = asyncio.ensure_future(self._work(job, lane))

    # --- working ----------------------------------------------------------------------------------------------------

    async def _work(self, job: Job, lane: Lane) -> None:
        try:
            reply = await self._answer(job)
            answer = self._outgoing(job, *reply)
            lane.reply = answer if job.command.seq == lane.seq else ()
            await self._outbox.send(answer)
            job.batch.done_one(job.record)
            for batch, record in job.repeats:
                batch.done_one(record)
        except asyncio.CancelledError:
            # The worker stops. Without an answer the command is delivered again, to whoever owns the partition.
            raise
        except Exception as error:
            # Whatever it is, the command has no answer: stop, commit nothing past it, let it be delivered again.
            self._stop_for(error)
        finally:
            lane.running = lane.task = None
            self._running[job.command.action] -= 1
            metrics.in_flight.labels(self.step).dec()
            self._after(job, lane)

    def _after(self, job: Job, lane: Lane) -> None:
        if lane.waiting:
            self._schedule(lane)
        elif len(self._lanes) > REMEMBERED_JOBS:
            self._forget_some()
        self._start_some()
        if self._queued <= QUEUED_COMMANDS:
            self._room.set()

    def _forget_some(self) -> None:
        for job_id, lane in list(self._lanes.items())[: REMEMBERED_JOBS // 10]:
            if lane.running is None and not lane.waiting:
                del self._lanes[job_id]

    async def _answer(self, job: Job) -> tuple[Reply, int]:
        """Do what the command says; return the reply and the microseconds that it took."""
        command = job.command
        queued_s = max(0.0, self._clock() - job.record.timestamp_ms / 1000)
        metrics.queue_seconds.labels(self.step).observe(queued_s)
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
        outcome = "succeeded" if isinstance(reply, Succeeded | Undone | Confirmed) else "failed"
        metrics.step_seconds.labels(self.step, command.action, outcome).observe(took)
        if traced is not None:
            traced.end(reply)
        return reply, int(took * 1_000_000)

    async def _attempt(self, job: Job) -> Reply:
        command = job.command
        job.attempting = True
        try:
            plan = await self._plan(command.plan_hash)
            planned = plan.steps[plan.index(command.step)]
            step = await self._instance(planned.use, planned.params, plan)
            undoing = command.action is not Action.EXECUTE
            timeout_ms = planned.undo_timeout_ms if undoing else planned.timeout_ms
            call = self._call(command, plan, timeout_ms, job.record.partition, planned.confirms)
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._perform(step, call, command)
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
            return self._failed(
                command, error.reason, retryable=True, unknown=error.effect_unknown, after=error.after
            )
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

    async def _perform(self, step: Step, call: StepCall, command: StepCommand) -> Reply:
        where = (command.job_id, command.run, command.step, command.seq)
        match command.action:
            case Action.EXECUTE:
                output = await step.run(call)
                encoded = msgspec.json.encode(output)
                total = len(encoded) + sum(len(one) for one in command.inputs.values())
                if len(encoded) > MAX_OUTPUT_BYTES or total > MAX_OUTPUTS_BYTES:
                    raise StepFailed(
                        f"an output of {len(encoded)} bytes; at most {MAX_OUTPUT_BYTES} a step: archive what is large",
                        effect_unknown=True,
                    )
                return Succeeded(*where, encoded)
            case Action.COMPENSATE:
                if step.compensate is not NOTHING_TO_UNDO and step.compensate is not None:
                    await step.compensate(call)
                return Undone(*where)
            case Action.CONFIRM:
                if step.confirm is not None:
                    await step.confirm(call)
                return Confirmed(*where)

    def _failed(
        self,
        command: StepCommand,
        reason: str,
        *,
        retryable: bool = False,
        unknown: bool = False,
        after: timedelta | None = None,
    ) -> Reply:
        where = (command.job_id, command.run, command.step, command.seq)
        after_ms = max(0, after // timedelta(milliseconds=1)) if after else 0
        match command.action:
            case Action.EXECUTE:
                return Failed(*where, reason, retryable, unknown, after_ms)
            case Action.COMPENSATE:
                return UndoFailed(*where, reason, not retryable, after_ms)
            case Action.CONFIRM:
                return ConfirmFailed(*where, reason, not retryable, after_ms)

    async def _plan(self, plan_hash: str) -> Plan:
        try:
            return self._plans(plan_hash)
        except UnknownPlan:
            await self._plans.refresh()
            return self._plans(plan_hash)

    async def _instance(self, use: str, params: str, plan: Plan) -> Step:
        """Return the step made for these parameters, opened once."""
        opening = self._instances.get((use, params))
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            planned = plan.steps[plan.index(self.step)]
            opening = asyncio.ensure_future(self._open(planned))
            self._instances[use, params] = opening
        # Shielded: a command that is cancelled must not close the step to its neighbours.
        return await asyncio.shield(opening)

    async def _open(self, planned: StepPlan) -> Step:
        step = self._make_step(planned, self._host)
        await step.open()
        return step

    def _call(self, command: StepCommand, plan: Plan, timeout_ms: int, partition: int, confirms: bool) -> StepCall:
        record: dict[str, Any] = {}
        outputs: dict[str, Mapping[str, Any]] = {}
        for planned in plan.steps:
            encoded = command.inputs.get(planned.name)
            if encoded:
                earlier = msgspec.json.decode(encoded, type=StepOutput)
                record.update(earlier.record)
                outputs[planned.name] = earlier.data
        own = msgspec.json.decode(command.output, type=StepOutput) if command.output else None
        if own is not None:
            record.update(own.record)
        return StepCall(
            job_id=command.job_id,
            run=command.run,
            pipeline=plan.pipeline,
            step=command.step,
            seq=command.seq,
            attempt=command.attempt,
            key=command.key,
            url=command.url,
            timeout=timedelta(milliseconds=timeout_ms),
            payload=msgspec.json.decode(command.payload) if command.payload else {},
            record=record,
            outputs=outputs,
            output=None if own is None else own.data,
            record_schema=plan.record_schema,
            label=command.label,
            partition=partition,
            confirms=confirms,
        )

    def _outgoing(self, job: Job, reply: Reply, took_us: int) -> tuple[Outgoing, ...]:
        command, record = job.command, job.record
        value = encode_event(
            reply, attempt=command.attempt, took_us=took_us, label=command.label, trace=command.trace
        )
        headers = current_headers()
        # The same bytes for the coordinator and for whoever follows this step: one topic decides, the other tells.
        return (
            Outgoing(self._events, record.partition, record.key, value, headers),
            Outgoing(self._results, record.partition, record.key, value, headers),
        )
