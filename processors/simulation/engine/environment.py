"""What the parts of a history share: the loop, Kafka, chance, the faults that are still to come, and the story."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

from processors.saga.invariants import Violation
from processors.simulation.engine.event_loop import VirtualLoop
from processors.simulation.engine.faults import AT_SENDS, AT_TURNS, ON_EXECUTE, ON_UNDO, EngineFault, Planned
from processors.simulation.engine.kafka import Broker


class SimulatedEnvironment:
    """The surroundings of one history."""

    partitions = 2

    def __init__(self, seed: int, planned: Sequence[Planned], *, traced: bool = False) -> None:
        self.loop = VirtualLoop()
        self.chance = random.Random(seed ^ 0x5A6A)
        self.broker = Broker(self.loop, self.chance)
        self.planned = tuple(planned)
        self.hits: Counter[EngineFault] = Counter()
        self.violations: list[Violation] = []
        self.story: list[str] = []
        self.traced = traced
        #: Nothing goes wrong any more.
        self.calm = False
        self._struck: set[int] = set()
        self._attempts: Counter[tuple[str, str, bool]] = Counter()

    # --- doing things outside of every process ----------------------------------------------------------------------

    def later(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function after a while, as part of no process."""
        self.loop.call_later(delay_s, function, *arguments, context=Context())

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a task that belongs to no process."""
        Context().run(self.loop.create_task, coroutine)

    # --- telling ----------------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Add a line to the story."""
        if self.traced:
            self.story.append(f"{self.loop.elapsed:9.3f} s  {line}")

    def violate(self, rule: str, job_id: str, detail: str) -> None:
        """Note a broken promise."""
        violation = Violation(rule, job_id, detail)
        if violation not in self.violations:
            self.violations.append(violation)
            self.say(f"!! {violation}")

    def hit(self, kind: EngineFault) -> None:
        """Count a fault that happened."""
        self.hits[kind] += 1

    # --- faults ------------------------------------------------------------------------------------------------------

    def of(self, kinds: frozenset[EngineFault], where: str = "") -> list[Planned]:
        """Return the planned faults of some kinds, of one role if it is named."""
        return [one for one in self.planned if one.kind in kinds and where in ("", one.where)]

    def strikes(self, planned: Planned) -> bool:
        """Whether a fault happens now; each does once, and none when it is calm."""
        if self.calm or self._is_over(planned):
            return False
        self._struck.add(self._number(planned))
        self.hit(planned.kind)
        self.say(f"** {planned.kind} ({planned.where})")
        return True

    def at_turns(self, role: str) -> list[Planned]:
        """Return what is still to happen at turns of a role's processes."""
        return self.of(AT_TURNS, role)

    def meets_at_send(self, role: str, number: int) -> EngineFault | None:
        """Return what a role's send with this number meets."""
        for one in self.of(AT_SENDS, role):
            if one.at == number and self.strikes(one):
                return one.kind
        return None

    def meets_at_attempt(self, job_id: str, step: str, undoing: bool) -> Planned | None:
        """Return what a job's next attempt of a step meets; it strikes where it shows."""
        self._attempts[job_id, step, undoing] += 1
        number = self._attempts[job_id, step, undoing]
        if self.calm:
            return None
        kinds = ON_UNDO if undoing else ON_EXECUTE
        return next((one for one in self.of(kinds, step) if one.at == number and not self._is_over(one)), None)

    def _is_over(self, planned: Planned) -> bool:
        return self._number(planned) in self._struck

    def _number(self, planned: Planned) -> int:
        # By identity: two that say the same are two.
        return next(place for place, one in enumerate(self.planned) if one is planned)
