"""Run one command of a step, and say what it came to in the engine's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from processors.errors import DeliveryFailed, RetryLater, StepFailed
from processors.kafka.producer import RecordTooLarge
from processors.roles.attempts import decode_output, perform_action
from processors.roles.failures import Failure, failure_of
from processors.saga.state import Action
from processors.step import Step, StepCall, StepOutput, StepParams
from processors.testing.calls import open_step, step_call
from processors.testing.memory import MemoryHost, MemoryRecord
from processors.testing.site import MemorySite
from processors.testing.spending import spent_on
from processors.testing.warehouse import MemoryWarehouse


class Outcome(StrEnum):
    """What an attempt came to."""

    SUCCEEDED = "succeeded"
    #: For good: the engine compensates.
    FAILED = "failed"
    #: For now: the engine makes another attempt.
    RETRY = "retry"
    #: Cut off after the call's timeout.
    TIMED_OUT = "timed out"
    #: An exception that says nothing about retry or failure: retried, outcome unknown.
    UNEXPECTED = "unexpected error"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One attempt: what it returned or raised, and what it left on the host's topics.

    `output` is what later steps would see: it went through JSON. `effect_unknown` says that the engine would compensate
    this step too. `spent` is by how much the spend ledger grew, less what was taken back.
    """

    call: StepCall
    action: Action
    outcome: Outcome
    output: StepOutput | None
    error: Exception | None
    reason: str
    effect_unknown: bool
    retry_after: timedelta | None
    published: tuple[MemoryRecord, ...]
    spent: Decimal

    def returned(self) -> StepOutput:
        """Return the output of a run that succeeded. Raises what the step raised."""
        if self.error is not None:
            raise self.error
        if self.output is None:
            raise ValueError(f"a {self.action} returns no output")
        return self.output

    def records(self, topic: str) -> tuple[MemoryRecord, ...]:
        """Return what this attempt published to a topic, by its short name."""
        return tuple(record for record in self.published if record.topic == topic)


async def run_step(
    step: Step | type[Step],
    call: StepCall | None = None,
    *,
    action: Action = Action.EXECUTE,
    params: StepParams | Mapping[str, Any] | None = None,
    host: MemoryHost | None = None,
    site: MemorySite | None = None,
    warehouse: MemoryWarehouse | None = None,
) -> StepResult:
    """Run, compensate or confirm once.

    A class is opened for this one command, with `params`, `host`, `site` and `warehouse` as for `open_step`; a step that
    is open already has its own. What the step raises is an outcome; what `open` raises is raised.
    """
    call = step_call() if call is None else call
    if not isinstance(step, Step):
        async with open_step(step, params, name=call.step, host=host, site=site, warehouse=warehouse) as opened:
            return await run_step(opened, call, action=action)
    if not isinstance(step.host, MemoryHost):
        raise TypeError(f"run_step needs a step on a MemoryHost, not on {type(step.host).__name__}")
    if params is not None or host is not None or site is not None or warehouse is not None:
        raise TypeError("the step is open: give params, host, site and warehouse to open_step")
    history = step.host.broker.history
    began, spent_before = len(history), spent_on(step.host)
    output, error = await _attempt(step, call, action)
    failure = Failure("") if error is None else failure_of(error)
    return StepResult(
        call=call,
        action=action,
        outcome=_outcome(error, failure),
        output=output,
        error=error,
        reason=failure.reason,
        effect_unknown=failure.outcome_unknown,
        retry_after=failure.after,
        published=tuple(history[began:]),
        spent=spent_on(step.host) - spent_before,
    )


async def _attempt(step: Step, call: StepCall, action: Action) -> tuple[StepOutput | None, Exception | None]:
    try:
        async with asyncio.timeout(call.timeout.total_seconds()):
            encoded = await perform_action(step, call, action)
    except Exception as error:  # noqa: BLE001  # it is what the test asks about
        if isinstance(error, DeliveryFailed) and not isinstance(error, RecordTooLarge):
            raise
        return None, error
    return (decode_output(encoded) if encoded else None), None


def _outcome(error: Exception | None, failure: Failure) -> Outcome:
    match error:
        case None:
            return Outcome.SUCCEEDED
        case TimeoutError():
            return Outcome.TIMED_OUT
        case StepFailed():
            return Outcome.FAILED
        case RetryLater():
            return Outcome.RETRY
        case _ if not failure.expected:
            return Outcome.UNEXPECTED
        case _:
            return Outcome.RETRY if failure.retryable else Outcome.FAILED
