"""Attempts at commands: the step of the plan is created once, and called with the data of each command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from processors.errors import StepFailed
from processors.pipeline.pipeline import find_step, load_params
from processors.pipeline.plan_store import Plans, UnknownPlan
from processors.saga.commands import StepCommand
from processors.saga.events import Compensated, Confirmed, Reply, Succeeded
from processors.saga.moves import MAX_CARRIED_BYTES
from processors.saga.plan import Plan, StepPlan
from processors.saga.state import Action
from processors.step import NOTHING_TO_UNDO, Host, Step, StepCall, StepOutput

# An event has one output, a state has all outputs: see the limits of their topics.
MAX_OUTPUT_BYTES = 256 * 1024

encode_output = msgspec.json.Encoder().encode
decode_output = msgspec.json.Decoder(StepOutput).decode

#: Makes the step that a plan names, on a host.
MakeStep = Callable[[StepPlan, Host], Step]


def planned_step(planned: StepPlan, host: Host) -> Step:
    """Return the installed step that a plan names, with the parameters that it pinned. Raises PipelineError."""
    return find_step(planned.use)(planned.name, load_params(planned), host)


async def perform_action(step: Step, call: StepCall, action: Action, carried: int = 0) -> bytes:
    """Have a step do what a command asks; return the output of an Execute as JSON, else nothing.

    `carried` is how many bytes the command brings, which the state carries too. Raises StepFailed for an output that is
    too large, and whatever the step raises.
    """
    match action:
        case Action.EXECUTE:
            encoded = encode_output(await step.run(call))
            total = len(encoded) + carried
            if len(encoded) > MAX_OUTPUT_BYTES or total > MAX_CARRIED_BYTES:
                raise StepFailed(
                    f"an output of {len(encoded)} bytes, {total} with the payload and the earlier outputs; at most "
                    f"{MAX_OUTPUT_BYTES} a step and {MAX_CARRIED_BYTES} in total: archive large data",
                    effect_unknown=True,
                )
            return encoded
        case Action.COMPENSATE:
            if step.compensate is not NOTHING_TO_UNDO and step.compensate is not None:
                await step.compensate(call)
        case Action.CONFIRM:
            if step.confirm is not None:
                await step.confirm(call)
    return b""


class Attempts:
    """Makes attempts at the commands of one step, for all plans that have a step of that name."""

    def __init__(self, step: str, host: Host, plans: Plans, make_step: MakeStep = planned_step) -> None:
        self._step = step
        self._host = host
        self._plans = plans
        self._make_step = make_step
        self._instances: dict[tuple[str, str], asyncio.Task[Step]] = {}

    async def close(self) -> None:
        """Close the steps' connections."""
        for opening in self._instances.values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().close()

    async def perform(self, command: StepCommand, partition: int) -> Reply:
        """Return the reply of a successful attempt. Raises what the step raises, or TimeoutError."""
        try:
            plan = self._plans(command.plan_hash)
        except UnknownPlan:
            await self._plans.refresh()
            plan = self._plans(command.plan_hash)
        planned = plan.steps[plan.index(command.step)]
        step = await self._instance(planned)
        timeout_ms = planned.timeout_ms if command.action is Action.EXECUTE else planned.undo_timeout_ms
        call = self._call(command, plan, timeout_ms, partition, planned.confirms)
        async with asyncio.timeout(timeout_ms / 1000):
            return await self._perform(step, call, command)

    async def _perform(self, step: Step, call: StepCall, command: StepCommand) -> Reply:
        where = (command.job_id, command.run, command.step, command.seq)
        carried = len(command.payload) + sum(len(one) for one in command.inputs.values())
        output = await perform_action(step, call, command.action, carried)
        match command.action:
            case Action.EXECUTE:
                return Succeeded(*where, output)
            case Action.COMPENSATE:
                return Compensated(*where)
            case Action.CONFIRM:
                return Confirmed(*where)

    async def _instance(self, planned: StepPlan) -> Step:
        """Return the step made for these parameters, opened once."""
        opening = self._instances.get((planned.use, planned.params))
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            opening = self._instances[planned.use, planned.params] = asyncio.ensure_future(self._open(planned))
        if opening.done():
            return opening.result()
        # Shielded: a cancelled command must not stop the opening of the step for other commands.
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
                earlier = decode_output(encoded)
                record.update(earlier.record)
                outputs[planned.name] = earlier.data
        own = decode_output(command.output) if command.output else None
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
            address=command.address or command.url,
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
