"""The contract by which a step's own code takes part in `scrapesaga simulate`: a model of what it changes outside.

The step runs as it is; what it talks to is replaced. Name the model in the step:

    class ExportJson(Step):
        simulated = "export_json:Folder"

    class Folder(StepModel):
        def __init__(self, network: Network) -> None:
            super().__init__(network)
            self._folder = TemporaryDirectory()

        def step(self, step_class, name, params, host):
            return step_class(name, replace(params, folder=self._folder.name), host)

        def standing(self, job_id: str, run: int, key: str) -> int:
            return sum(1 for path in Path(self._folder.name).iterdir() if path.stem == job_id)

The simulator puts its faults around `run`, `compensate` and `confirm`, kills and halts the process at each `await`, and
asks in the end how many effects stand: one for a completed job, none for a compensated one. Time is virtual: use
`asyncio.sleep`, not a thread's. A model must do the same each time: no clock, no randomness, no iteration over sets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from processors.step import Host, Step


class Network(Protocol):
    """The way to what a step talks to."""

    def call(self, what: str) -> AbstractAsyncContextManager[None]:
        """Make one call outside, which takes its time: do the effect inside of the `async with`.

        A worker may be killed, or its attempt run out of time, on the way there or back: then the effect hasn't happened,
        or has happened though nobody learns of it.
        """
        ...


class StepModel(ABC):
    """What one step of a pipeline changes outside, in one simulated history: all jobs, runs and workers of it."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def step(self, step_class: type[Step], name: str, params: Any, host: Host) -> Step:
        """Return a worker's step that works upon this model; called once a worker process."""
        return step_class(name, params, host)

    @abstractmethod
    def standing(self, job_id: str, run: int, key: str) -> int:
        """Return how many effects of the step stand for a job: of this run, by its idempotency key, or of earlier runs.

        Count an earlier run's effect only if a failed run has to take it back too: a file that is named by the job, not
        one that is named by the key.
        """

    def paid(self, job_id: str, run: int, key: str) -> int:
        """Return how often was paid under a key; more than once is a broken promise."""
        return 0

    def close(self) -> None:
        """The history is over: remove what it left."""
        return None
