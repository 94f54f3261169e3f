"""What steps do outside, modelled by kind or by the steps' own code, and the faults that their calls meet."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from processors.errors import PipelineError, RetryLater, StepFailed
from processors.pipeline.pipeline import find_step
from processors.saga.invariants import Effect
from processors.saga.plan import Plan, StepPlan
from processors.simulation.engine.event_loop import SimulatedProcess, current_process
from processors.simulation.engine.faults import EngineFault, Planned
from processors.simulation.engine.records import sample_record
from processors.simulation.rules import effects as kinds
from processors.simulation.rules.effects import EffectKind, EffectRefused, kind_of
from processors.step import NOTHING_TO_UNDO, Host, Step, StepCall, StepOutput
from processors.step_model import Network, StepModel

#: A call takes up to this long in each direction.
CALL_S = 0.2
#: Longer than any attempt may take.
FOR_EVER_S = 3_600.0


@dataclass(slots=True)
class AttemptFaults:
    """What one attempt of a step meets."""

    fault: Planned | None
    calls: int = 0

    def raises_at(self, call: int) -> bool:
        """Whether the call with this number fails before its effect; 0 is the attempt as a whole."""
        return self.fault is not None and self.fault.kind is EngineFault.STEP_RAISES and int(self.fault.how * 3) == call

    def loses_reply_of(self, call: int) -> bool:
        """Whether the call with this number fails after its effect."""
        return self.fault is not None and self.fault.kind is EngineFault.REPLY_LOST and int(self.fault.how * 2) == call


_attempt: ContextVar[AttemptFaults | None] = ContextVar("attempt", default=None)


class SimulatedNetwork:
    """The network of one history."""

    def __init__(
        self,
        latency: Callable[[], float],
        meets: Callable[[str, str, bool], Planned | None],
        strikes: Callable[[Planned], bool],
    ) -> None:
        self._latency = latency
        self._meets = meets
        self._strikes = strikes
        self._acting: list[SimulatedProcess] = []

    def under_way(self) -> bool:
        """Whether an attempt is at work in a process that lives."""
        return any(process.alive for process in self._acting)

    def call(self, what: str) -> AbstractAsyncContextManager[None]:
        """Make one call outside: the way there and back, in which an attempt can fail."""
        return self._call(what)

    @asynccontextmanager
    async def _call(self, what: str) -> AsyncIterator[None]:
        attempt = _attempt.get()
        if attempt is not None:
            attempt.calls += 1
        await asyncio.sleep(self._latency() * CALL_S)
        if attempt is not None and attempt.raises_at(attempt.calls) and self._happens(attempt):
            raise ConnectionError(f"{what}: no connection")
        yield
        await asyncio.sleep(self._latency() * CALL_S)
        if attempt is not None and attempt.loses_reply_of(attempt.calls) and self._happens(attempt):
            raise ConnectionError(f"{what}: the connection was lost")

    async def attempt(self, call: StepCall, undoing: bool, act: Callable[[], Awaitable[Any]]) -> Any:
        """Let a step act once, with whatever happens to this attempt."""
        planned = self._meets(call.job_id, call.step, undoing)
        meets = AttemptFaults(planned)
        token = _attempt.set(meets)
        process = current_process()
        self._acting.append(process)
        try:
            return await self._act(act, meets, planned)
        finally:
            self._acting.remove(process)
            _attempt.reset(token)

    async def _act(self, act: Callable[[], Awaitable[Any]], meets: AttemptFaults, planned: Planned | None) -> Any:
        kind = planned.kind if planned else None
        await asyncio.sleep(self._latency() * CALL_S)
        if planned is not None and kind in _BEFORE and self._strikes(planned):
            await _fail_before(planned)
        if meets.raises_at(0) and self._happens(meets):
            raise ConnectionError("no connection")
        result = await act()
        await asyncio.sleep(self._latency() * CALL_S)
        if (kind is EngineFault.UNDO_REPLY_LOST or meets.loses_reply_of(0)) and self._happens(meets):
            raise ConnectionError("the connection was lost")
        if kind is EngineFault.HANGS_AFTER and self._happens(meets):
            await asyncio.sleep(FOR_EVER_S)
        return result

    def _happens(self, attempt: AttemptFaults) -> bool:
        return attempt.fault is not None and self._strikes(attempt.fault)


_BEFORE = frozenset(
    {
        EngineFault.STEP_FAILS,
        EngineFault.STEP_RETRIES,
        EngineFault.HANGS_BEFORE,
        EngineFault.SLOW,
        EngineFault.UNDO_FAILS,
        EngineFault.UNDO_GIVES_UP,
        EngineFault.UNDO_HANGS,
    }
)


async def _fail_before(planned: Planned) -> None:
    match planned.kind:
        case EngineFault.STEP_FAILS | EngineFault.UNDO_GIVES_UP:
            raise StepFailed("it can't be done (simulated)")
        case EngineFault.STEP_RETRIES | EngineFault.UNDO_FAILS:
            raise RetryLater("not now (simulated)")
        case EngineFault.HANGS_BEFORE | EngineFault.UNDO_HANGS:
            await asyncio.sleep(FOR_EVER_S)
        case _:
            # Slow: it works, if it is given the time.
            await asyncio.sleep(planned.how * 3)


class Exposed(Step):
    """A step as it is, exposed to faults."""

    def __init__(self, inner: Step, network: SimulatedNetwork) -> None:
        super().__init__(inner.name, inner.params, inner.host)
        self._inner = inner
        self._network = network
        # The runner looks at these to see whether there is anything to do.
        if inner.compensate is None or inner.compensate is NOTHING_TO_UNDO:
            self.compensate = inner.compensate  # type: ignore[misc]  # of this instance alone
        else:
            self.compensate = self._compensate  # type: ignore[misc]  # likewise
        if inner.confirm is not None:
            self.confirm = self._confirm  # type: ignore[misc]  # likewise

    async def open(self) -> None:
        """Open the step."""
        await self._inner.open()

    async def close(self) -> None:
        """Close the step."""
        await self._inner.close()

    async def run(self, call: StepCall) -> StepOutput:
        """Run the step, or not, or so that nobody learns of it."""
        output: StepOutput = await self._network.attempt(call, False, lambda: self._inner.run(call))
        return output

    async def _compensate(self, call: StepCall) -> None:
        await self._network.attempt(call, True, lambda: self._inner.compensate(call))

    async def _confirm(self, call: StepCall) -> None:
        confirm = self._inner.confirm
        if confirm is not None:
            await self._network.attempt(call, True, lambda: confirm(call))


class Modelled(StepModel):
    """What a step changes, by the kind of its effect."""

    def __init__(self, network: Network, planned: StepPlan) -> None:
        super().__init__(network)
        self.planned = planned
        self.kind = kind_of(planned)
        self.things: dict[str, kinds.Effects] = defaultdict(dict)

    def step(self, step_class: type[Step], name: str, params: Any, host: Host) -> Step:
        """Return a step that does what its kind does."""
        return ModelledStep(name, params, host, self)

    def standing(self, job_id: str, run: int, key: str) -> int:
        """Return what stands for a run."""
        return self.effect(job_id, run, key, run, True).standing

    def effect(self, job_id: str, run: int, key: str, since_run: int, ended_well: bool) -> Effect:
        """Return what stands, after a failed run also of earlier ones since `since_run`."""
        return kinds.effect_of(self.things[job_id], self.kind, key, self.planned.name, run, since_run, ended_well)


class ModelledStep(Step):
    """A step of which only the kind of its effect is modelled."""

    def __init__(self, name: str, params: Any, host: Host, model: Modelled) -> None:
        super().__init__(name, params, host)
        self._model = model

    async def run(self, call: StepCall) -> StepOutput:
        """Have the effect; an older command than the last one is refused where the outside has a fence."""
        things, kind = self._model.things, self._model.kind
        try:
            things[call.job_id] = kinds.execute(
                things[call.job_id], kind, call.key, call.step, call.run, call.seq, call.confirms
            )
        except EffectRefused:
            raise StepFailed("a newer command has acted") from None
        record = sample_record(call.record_schema) if kind is EffectKind.NONE else {}
        return StepOutput(data={"seq": call.seq}, record=record)

    async def compensate(self, call: StepCall) -> None:
        """Take it back."""
        things, kind = self._model.things, self._model.kind
        things[call.job_id] = kinds.compensate(things[call.job_id], kind, call.key, call.step, call.run, call.seq)

    async def confirm(self, call: StepCall) -> None:
        """Make it visible."""
        things, kind = self._model.things, self._model.kind
        things[call.job_id] = kinds.confirm(things[call.job_id], kind, call.step, call.run, call.seq)


def find_model(target: str) -> type[StepModel]:
    """Return the model that `module:attr` names. Raises PipelineError."""
    module_name, colon, attr = target.partition(":")
    try:
        found = getattr(import_module(module_name), attr) if colon else None
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"the step model {target!r} can't be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, StepModel)):
        raise PipelineError(f"the step model {target!r} is no module:attr of a processors.step_model.StepModel")
    return found


def models_of(plan: Plan, named: Mapping[str, str]) -> dict[str, type[StepModel]]:
    """Return the models of the steps that are to be really run: those named by step, else what the steps name themselves.

    Raises PipelineError.
    """
    unknown = set(named) - {step.name for step in plan.steps}
    if unknown:
        raise PipelineError(f"pipeline {plan.pipeline!r} has no step {', '.join(sorted(unknown))}: correct --model")
    found = {}
    for planned in plan.steps:
        target = named.get(planned.name) or find_step(planned.use).simulated
        if target:
            found[planned.name] = find_model(target)
    return found
