"""Clients and operators of a history: they submit, and step in at their times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from processors.kafka.producer import Outgoing, partition_for
from processors.messages.wire import decode_event, encode_event
from processors.saga.events import Cancelled, Event, Redriven, Reply, Resumed, ResumeMode, Submitted
from processors.saga.plan import Plan
from processors.saga.state import ENDED, Origin, Phase
from processors.simulation.engine.environment import SimulatedEnvironment
from processors.simulation.engine.faults import EngineFault, Planned
from processors.simulation.engine.view import View
from topics.catalogue import Catalogue

OPERATOR = "ann"


class SimulatedOperators:
    """Everybody who writes into scrape.events from outside of the engine."""

    def __init__(
        self, environment: SimulatedEnvironment, plan: Plan, catalogue: Catalogue, view: View, jobs: tuple[str, ...]
    ) -> None:
        self.environment = environment
        self.plan = plan
        self.events = catalogue.events.name
        self.view = view
        self.jobs = jobs
        self._accepted = 0
        self._submitted: dict[str, Submitted] = {}
        self._move: dict[str, Callable[[float], bool]] = {}

    def may_move(self, role: str, move: Callable[[float], bool]) -> None:
        """Let a partition of a role be moved."""
        self._move[role] = move

    def append(self, event: Event) -> None:
        """Write an event as intake or the command line would."""
        key = event.job_id.encode()
        value = encode_event(event)
        self.environment.broker.append(
            Outgoing(self.events, partition_for(key, self.environment.partitions), key, value)
        )

    def submit(self, job: str, content_hash: str = "content") -> None:
        """Submit a request."""
        self._accepted += 1
        url = "https://shop.example/1"
        submitted = Submitted(job, self.plan, url, b"", content_hash, Origin(0, self._accepted))
        self._submitted.setdefault(job, submitted)
        self.append(submitted)

    async def act(self, planned: Planned, rest: Callable[[], Awaitable[object]]) -> None:
        """Do what was planned, if it makes sense now; `rest` waits until nothing moves any more."""
        job = self.jobs[int(planned.how * len(self.jobs))]
        phase = self.view.phase(job)
        match planned.kind:
            case EngineFault.BROKER_CLOCK_JUMPED:
                if self.environment.strikes(planned):
                    self.environment.broker.clock_error_s += (planned.how - 0.3) * 6
            case EngineFault.REBALANCED:
                if not self.environment.calm and self._move[planned.where](planned.how):
                    self.environment.strikes(planned)
            case EngineFault.CANCELLED:
                if phase not in ENDED and phase is not Phase.NEW and self.environment.strikes(planned):
                    self.append(Cancelled(job, OPERATOR))
            case EngineFault.RESUMED | EngineFault.SKIPPED:
                await self._resume(planned)
            case EngineFault.SUBMITTED_AGAIN:
                if phase is not Phase.NEW and self.environment.strikes(planned):
                    self.append(self._submitted[job])
            case EngineFault.SUBMITTED_TWICE | EngineFault.OTHER_CONTENT:
                if phase in ENDED:
                    # A new run may begin. What a zombie of the last one still writes has no fence: docs/verification.md.
                    await rest()
                if self.environment.strikes(planned):
                    self.submit(job, "content" if planned.kind is EngineFault.SUBMITTED_TWICE else "other content")
            case EngineFault.REPLY_REPEATED:
                self._repeat_reply(job, planned)
            case EngineFault.GARBAGE:
                if self.environment.strikes(planned):
                    self.environment.broker.append(Outgoing(self.events, 0, b"garbage", b"\xc3\x01 no event"))
            case _:
                raise ValueError(f"{planned.kind} is nobody's act")

    async def afterwards(self, planned: Planned, rest: Callable[[], Awaitable[object]]) -> None:
        """Begin another run, or another life, of a job that has ended."""
        job = self.jobs[int(planned.how * len(self.jobs))]
        if self.view.phase(job) not in ENDED:
            return
        if planned.kind is EngineFault.REDRIVEN:
            if self.environment.strikes(planned):
                place = int(planned.at) % len(self.plan.steps)
                self.append(Redriven(job, self.plan.steps[place].name, self.plan, OPERATOR))
        elif self.environment.strikes(planned):
            await asyncio.sleep(self.plan.retention_ms / 1000 + 60)
            await rest()
            if self.view.phase(job) is Phase.NEW:
                self.submit(job)
        await rest()

    async def _resume(self, planned: Planned) -> None:
        mode = ResumeMode.RETRY if planned.kind is EngineFault.RESUMED else ResumeMode.SKIP
        # Somebody has to look before they can step in.
        for _ in range(20):
            parked = [job for job in self.jobs if self.view.phase(job) is Phase.PARKED]
            if parked:
                if self.environment.strikes(planned):
                    self.append(Resumed(parked[0], mode, OPERATOR, "checked by hand"))
                return
            await asyncio.sleep(2)

    def _repeat_reply(self, job: str, planned: Planned) -> None:
        key = job.encode()
        log = self.environment.broker.logs[self.events, partition_for(key, self.environment.partitions)]
        replies = [
            one.value
            for one in log
            if one.key == key and isinstance(decode_event(one.value, lambda _: self.plan), Reply)
        ]
        if replies and self.environment.strikes(planned):
            value = replies[int(planned.how * len(replies))]
            self.environment.broker.append(
                Outgoing(self.events, partition_for(key, self.environment.partitions), key, value)
            )
