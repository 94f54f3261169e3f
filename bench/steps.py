"""Steps that do nothing but carry some 400 bytes of JSON in and out, as plugin steps: what is left is the engine's cost."""

from __future__ import annotations

from processors.errors import StepFailed
from processors.step import NOTHING_TO_UNDO, Host, Step, StepCall, StepOutput, StepParams

PAYLOAD_BYTES = 400
#: A job whose payload names a step fails for good there.
FAILS_AT = "fails_at"


class Size(StepParams, frozen=True):
    """`size`: bytes of text in the output."""

    size: int = PAYLOAD_BYTES - 40


class Noop(Step):
    """Returns text of a fixed size, and undoes nothing in particular."""

    Params = Size

    def __init__(self, name: str, params: Size, host: Host) -> None:
        super().__init__(name, params, host)
        self._text = "x" * params.size

    async def run(self, call: StepCall) -> StepOutput:
        """Succeed, unless the job's payload says that this step fails."""
        if call.payload.get(FAILS_AT) == self.name:
            raise StepFailed("this job was made to fail here")
        return StepOutput(data={"text": self._text})

    async def compensate(self, call: StepCall) -> None:
        """Undo nothing."""


class Pure(Noop):
    """The same for a step that has no effect outside."""

    compensate = NOTHING_TO_UNDO  # type: ignore[assignment]  # a declaration instead of a method, as Step allows
