"""A step that does what its job's payload says, for looking at an engine from outside."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from processors.errors import RetryLater, StepFailed
from processors.step import Step, StepCall, StepOutput


class Logged(Step):
    """`{"second": "fail"}` in the payload makes the step named second fail; see the words below."""

    timeout = timedelta(minutes=10)

    async def run(self, call: StepCall) -> StepOutput:
        """Work, fail for good, fail once, or hang."""
        match call.payload.get(call.step):
            case "fail":
                raise StepFailed("told to")
            case "retry" if call.attempt == 1:
                raise RetryLater("told to", after=timedelta(milliseconds=1))
            case "hang":
                await asyncio.Event().wait()
        return StepOutput(data={"step": call.step})

    async def compensate(self, call: StepCall) -> None:
        """Undo, or refuse for good."""
        if call.payload.get("undo") == "refuse":
            raise StepFailed("told to keep it")
