"""A whole pipeline without Kafka: the real rules decide, the steps' own code runs, and waiting takes no time.

    story = await run_pipeline("pipelines/prices.yaml", "https://shop.example/1", site=site, warehouse=warehouse)
    assert story.phase is Phase.COMPLETED, str(story)

The clock of the engine is virtual: a retry that waits for an hour, or a reply that never comes, is over at once. What a
step itself waits for takes its time, and attempts are cut off after their timeouts in real time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from processors.errors import DeliveryFailed
from processors.kafka.producer import RecordTooLarge
from processors.kafka.record import Record
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.messages.wire import decode_command, decode_event, encode_command, encode_event
from processors.pipeline.plan_store import Plans
from processors.roles.attempts import Attempts, decode_output
from processors.roles.failures import failure_of
from processors.roles.intake import Intake
from processors.saga.commands import Reject, StepCommand
from processors.saga.events import Cancelled, Event, Reply, TimedOut
from processors.saga.plan import Plan
from processors.saga.protocol import advance
from processors.saga.state import Phase, Saga
from processors.step import Json
from processors.step_model import StepModel
from processors.testing.faults import Fault, FaultKind, Faults, check_faults
from processors.testing.memory import MemoryHost
from processors.testing.plans import plan_of
from processors.testing.site import MemorySite
from processors.testing.story import PipelineStory, RaisedError, StoryLine
from processors.testing.surroundings import Outside, StandIn, Surroundings
from processors.testing.warehouse import MemoryWarehouse

_START_MS = 1_700_000_000_000
#: How much later than everything else a late attempt does its work.
_LATE_BY_MS = 60_000
_UNFINISHED = frozenset({Phase.RUNNING, Phase.COMPENSATING})


async def run_pipeline(
    pipeline: Plan | Mapping[str, Any] | str | Path,
    url: str,
    *,
    host: MemoryHost | None = None,
    site: MemorySite | None = None,
    warehouse: MemoryWarehouse | None = None,
    faults: Iterable[Fault] = (),
    stand_ins: Mapping[str, StandIn] | None = None,
    models: Mapping[str, type[StepModel]] | None = None,
    payload: Mapping[str, Json] | None = None,
    job_id: str | None = None,
    label: str | None = None,
    schemas: Path | None = None,
) -> PipelineStory:
    """Run a pipeline for one URL until nothing more happens; return what became of it.

    `pipeline` is as for `plan_of`. HTTP goes to `site`, rows to `warehouse`, the rest to `host`; without a site or a
    warehouse those steps use the network. `stand_ins` replace steps by name. `models` are those of `scrapesaga simulate`
    (processors.step_model): the step runs upon its model, which is asked in the end what stands.
    Raises PipelineError for a pipeline that can't be planned, and BadRecord for a request that intake would refuse.
    """
    plan = plan_of(pipeline, schemas)
    met = Faults(faults)
    check_faults(plan, met)
    outside = Outside(host or MemoryHost(), site, warehouse, dict(stand_ins or {}), dict(models or {}))
    outside.check(plan)
    run = _PipelineRun(plan, Surroundings(outside), met)
    try:
        await run.submit(ScrapeRequest(url, plan.pipeline, job_id, dict(payload) if payload else None, label))
        await run.until_nothing_happens()
        return run.story()
    finally:
        await run.close()


class _PipelineRun:
    """The engine of one job: an inbox that is folded, and commands that are worked off one after the other."""

    def __init__(self, plan: Plan, surroundings: Surroundings, faults: Faults) -> None:
        self._plan = plan
        self._surroundings = surroundings
        self._faults = faults
        self._struck: Counter[int] = Counter()
        self._plans = Plans(surroundings.host.log("plans"))
        self._attempts = {
            step.name: Attempts(step.name, surroundings.host, self._plans, surroundings.make_step)
            for step in plan.steps
        }
        self._now_ms = _START_MS
        self._saga: Saga | None = None
        self._lines: list[StoryLine] = []
        self._errors: list[RaisedError] = []
        self._commands: deque[StepCommand] = deque()
        self._late: deque[StepCommand] = deque()

    async def submit(self, request: ScrapeRequest) -> None:
        """Accept a request as intake does. Raises BadRecord."""
        await self._plans.publish([self._plan])
        broker = self._surroundings.host.broker
        intake = Intake(broker, {self._plan.pipeline: self._plan}, broker.catalogue)
        record = Record(broker.catalogue.urls.name, 0, 0, self._now_ms, None, encode_request(request), ())
        self._fold(intake.accept(record))

    async def until_nothing_happens(self) -> None:
        """Work off commands; when there are none, let time pass to the next timer, then let late attempts work."""
        while True:
            saga = self._present
            if self._commands:
                await self._answer(self._commands.popleft())
            elif saga.phase in _UNFINISHED:
                self._now_ms = max(self._now_ms, saga.due_ms)
                self._fold(TimedOut(saga.job_id, saga.seq))
            elif self._late:
                self._now_ms += _LATE_BY_MS
                self._fold(await self._attempt(self._late.popleft(), None))
            else:
                return

    async def close(self) -> None:
        """Close the steps."""
        for attempts in self._attempts.values():
            await attempts.close()
        self._surroundings.close()

    def story(self) -> PipelineStory:
        """Return what happened."""
        saga = self._present
        return PipelineStory(
            plan=self._plan,
            lines=tuple(self._lines),
            outputs={
                planned.name: decode_output(step.output)
                for planned, step in zip(saga.plan.steps, saga.steps, strict=True)
                if step.output
            },
            published=self._surroundings.published,
            standing=self._surroundings.standing(saga),
            spent=self._surroundings.spent,
            errors=tuple(self._errors),
            took=self._elapsed,
        )

    # --- the coordinator ----------------------------------------------------------------------------------------------

    @property
    def _present(self) -> Saga:
        if self._saga is None:
            raise RuntimeError("nothing was submitted")
        return self._saga

    @property
    def _elapsed(self) -> timedelta:
        return timedelta(milliseconds=self._now_ms - _START_MS)

    def _fold(self, event: Event) -> None:
        """Append an event to the inbox and do what follows, through the bytes that would lie on Kafka."""
        self._now_ms += 1
        event = decode_event(encode_event(event), self._plans)
        decision = advance(self._saga, len(self._lines), event, self._now_ms)
        if decision.saga is None:
            raise RuntimeError(f"{type(event).__name__} left no saga")
        self._saga = decision.saga
        commands = [decode_command(encode_command(one)) for one in decision.commands if isinstance(one, StepCommand)]
        refused = next((one.reason for one in decision.commands if isinstance(one, Reject)), "")
        self._lines.append(StoryLine(self._elapsed, event, self._saga, tuple(commands), refused))
        self._commands.extend(commands)

    # --- the workers --------------------------------------------------------------------------------------------------

    async def _answer(self, command: StepCommand) -> None:
        fault = self._fault_of(command)
        kind = None if fault is None else fault.kind
        if kind is FaultKind.LATE:
            self._late.append(command)
            return
        if kind is FaultKind.CANCELLED:
            self._fold(Cancelled(command.job_id, "a test", "a fault of the test"))
        self._fold(await self._attempt(command, fault))

    def _fault_of(self, command: StepCommand) -> Fault | None:
        """Return what the attempt meets: the first fault of its step and action that isn't used up."""
        for place, fault in enumerate(self._faults):
            if (fault.step, fault.action) != (command.step, command.action):
                continue
            if fault.attempts is None or self._struck[place] < fault.attempts:
                self._struck[place] += 1
                return fault
        return None

    async def _attempt(self, command: StepCommand, fault: Fault | None) -> Reply:
        if fault is not None and fault.instead is not None:
            return failure_of(fault.instead).reply(command)
        reply = await self._perform(command)
        if fault is not None and fault.kind is FaultKind.REPEATED:
            reply = await self._perform(command)
        if fault is not None and fault.afterwards is not None:
            return failure_of(fault.afterwards).reply(command)
        return reply

    async def _perform(self, command: StepCommand) -> Reply:
        try:
            return await self._attempts[command.step].perform(command, 0)
        except Exception as error:
            if isinstance(error, DeliveryFailed) and not isinstance(error, RecordTooLarge):
                raise
            self._errors.append(RaisedError(command.step, command.action, command.attempt, error))
            return failure_of(error).reply(command)
