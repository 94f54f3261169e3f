"""What scrape.sagas says at any moment, as a reader that keeps the highest seq sees it."""

from __future__ import annotations

from processors.messages.wire import decode_saga
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Phase, Saga
from processors.saga_table.changelog import ChangelogMemory, fold, peek, seq_in
from processors.simulation.engine.kafka import Stored

_PHASES = tuple(Phase)


class View:
    """The states by job, kept up to date record by record."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._states: dict[bytes, bytes] = {}
        self._memory = ChangelogMemory()

    def take_in(self, record: Stored) -> None:
        """Take in one record of the topic."""
        seq = -1 if record.value is not None else seq_in(record.headers)
        fold(self._states, self._memory, [(record.key or b"", record.value, seq)])

    def phase(self, job: str) -> Phase:
        """Return a job's phase; NEW if there is none."""
        value = self._states.get(job.encode())
        return Phase.NEW if value is None else _PHASES[peek(value)[2]]

    def at_rest(self, job: str) -> bool:
        """Whether a job has ended, was forgotten, or waits for a person."""
        phase = self.phase(job)
        return phase in ENDED or phase is Phase.PARKED or (phase is Phase.NEW and job.encode() in self._memory.graves)

    def value(self, job: str) -> bytes | None:
        """Return a job's state as it was saved."""
        return self._states.get(job.encode())

    def saga(self, job: str) -> Saga | None:
        """Return a job's saga."""
        value = self.value(job)
        return None if value is None else decode_saga(value, lambda _: self._plan)
