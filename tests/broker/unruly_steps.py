"""The five built-in steps, misbehaving as a job's payload says: `{"unruly": {"load": "hang-after"}}`.

A pipeline names them as a plugin. Every process of an engine reads its pipelines, so this module is imported by all roles:
it is also where failpoints come in, see tests/broker/failpoints.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from processors.errors import StepFailed
from processors.step import NOTHING_TO_UNDO, Step, StepCall, StepOutput
from processors.steps import enrich, fetch, load, notify, parse
from tests.broker import failpoints

#: Name of a variable: the folder in which tests arm failpoints, and mend what is broken.
FOLDER = "UNRULY_FOLDER"


def mended(folder: Path, job_id: str) -> Path:
    """Return the file whose existence lets the compensations of a job work again."""
    return folder / f"mended-{job_id}"


def frozen(folder: Path, job_id: str) -> Path:
    """Return the file that holds the pid of the process that a job freezes."""
    return folder / f"frozen-{job_id}"


def _claim_the_freezing(job_id: str) -> None:
    """Return in the first process that comes to a job, and fail in the second: on a busy machine both may be at it."""
    try:
        with frozen(Path(os.environ[FOLDER]), job_id).open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        raise StepFailed("told to fail where another froze") from None


def _unruly(call: StepCall) -> str:
    wishes: dict[str, str] = call.payload.get("unruly", {})
    return wishes.get(call.step, "")


class Unruly(Step):
    """Does what the payload says around the real step's action and compensation."""

    async def run(self, call: StepCall) -> StepOutput:
        """Fail, hang, raise or freeze, before or after the effect; else what the real step does."""
        how = _unruly(call)
        if how == "fail":
            raise StepFailed("told to fail")
        if how == "hang":
            await asyncio.Event().wait()
        if how == "freeze-after":
            _claim_the_freezing(call.job_id)
        output: StepOutput = await super().run(call)  # type: ignore[safe-super]  # the real step comes next
        match how:
            case "fail-after":
                raise StepFailed("told to fail, too late", effect_unknown=True)
            case "raise-after":
                raise ValueError("told to raise")
            case "hang-after":
                await asyncio.Event().wait()
            case "freeze-after":
                # A whole process that stops between its effect and its answer, until somebody wakes it.
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                pass
        return output


class UnrulyUndo(Unruly):
    """With "undo-fails", compensations fail for good until the job is mended: somebody has to look at it."""

    async def compensate(self, call: StepCall) -> None:
        """Refuse, or do what the real step does."""
        if _unruly(call) == "undo-fails" and not mended(Path(os.environ[FOLDER]), call.job_id).exists():
            raise StepFailed("told not to undo")
        undo: Any = super().compensate
        await undo(call)


class Fetch(UnrulyUndo, fetch.Fetch):
    """An unruly fetch."""


class Parse(Unruly, parse.Parse):
    """An unruly parse."""

    compensate = NOTHING_TO_UNDO


class Enrich(UnrulyUndo, enrich.Enrich):
    """An unruly enrich."""


class Load(UnrulyUndo, load.Load):
    """An unruly load."""


class Notify(UnrulyUndo, notify.Notify):
    """An unruly notify."""


failpoints.install()
