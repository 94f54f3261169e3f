"""One seed, one history of the whole engine: two jobs, their processes, and whatever goes wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from processors.errors import BadRecord
from processors.kafka.producer import Outgoing
from processors.messages.dead_letters import source_of
from processors.messages.wire import decode_command, decode_event, decode_saga_fields
from processors.pipeline.pipeline import find_step, load_params
from processors.pipeline.plan_store import PIPELINE_KEY, PLAN_KEY
from processors.saga.events import Failed
from processors.saga.invariants import Violation
from processors.saga.plan import Plan, RetryPolicy, StepPlan, encode_plan, pin
from processors.simulation.engine.checker import Checker
from processors.simulation.engine.consumer_group import Group
from processors.simulation.engine.environment import SimulatedEnvironment
from processors.simulation.engine.event_loop import Stalled
from processors.simulation.engine.faults import AFTERWARDS, BY_OPERATORS, COORDINATOR, EngineFault, Planned, drawn
from processors.simulation.engine.kafka import Stored
from processors.simulation.engine.operators import SimulatedOperators
from processors.simulation.engine.roles import CoordinatorRole, StepRole
from processors.simulation.engine.step_models import Exposed, Modelled, ModelledStep, SimulatedNetwork
from processors.simulation.engine.view import View
from processors.step import Host, Step
from processors.step_model import Network, StepModel
from topics.catalogue import Catalogue

MakeModel = Callable[[Network], StepModel]

#: Two jobs whose partitions differ, and a third that shares the first one's.
JOBS = ("a", "d", "b")
#: Looked at so often whether anything still moves.
POLL_S = 0.5
#: Nothing moved for this long, and the owners have looked for what others wrote: it is over.
QUIET_S = 25.0
#: Between faults and their end, everything must come to rest within this.
ROUGH_LIMIT_S = 120.0
CALM_LIMIT_S = 7_200.0


@dataclass(frozen=True, slots=True)
class Whole:
    """What a history came to."""

    seed: int
    planned: tuple[Planned, ...]
    hits: Mapping[EngineFault, int]
    ends: tuple[str, ...]
    violations: tuple[Violation, ...]
    story: tuple[str, ...]
    records: int


def shortened(plan: Plan) -> Plan:
    """Return the plan with shorter times and fewer attempts: what they are changes nothing, that they run out does."""

    def policy(given: RetryPolicy, attempts: int) -> RetryPolicy:
        return RetryPolicy(min(given.attempts, attempts), min(given.base_ms, 200), min(given.cap_ms, 2_000), 600_000)

    steps = tuple(
        replace(
            step,
            timeout_ms=2_000,
            queue_timeout_ms=4_000,
            undo_timeout_ms=2_000,
            retry=policy(step.retry, 3),
            undo_retry=policy(step.undo_retry, 4),
        )
        for step in plan.steps
    )
    deadline_ms = min(plan.deadline_ms, 60_000) if plan.deadline_ms else 0
    return pin(replace(plan, steps=steps, deadline_ms=deadline_ms, retention_ms=600_000))


def whole_history(
    seed: int,
    plan: Plan,
    models: Mapping[str, MakeModel] | None = None,
    planned: Sequence[Planned] | None = None,
    *,
    traced: bool = False,
) -> Whole:
    """Return what the seed's faults, or the given ones, make of a plan; steps named in `models` are really run."""
    meets = drawn(seed, plan) if planned is None else tuple(planned)
    history = _History(seed, shortened(plan), models or {}, meets, traced)
    return history.run()


class _History:
    def __init__(
        self, seed: int, plan: Plan, models: Mapping[str, MakeModel], planned: Sequence[Planned], traced: bool
    ) -> None:
        self.seed = seed
        self.plan = plan
        self.environment = environment = SimulatedEnvironment(seed, planned, traced=traced)
        self.catalogue = catalogue = Catalogue(
            steps=tuple(step.name for step in plan.steps), partitions=environment.partitions
        )
        self.view = View(plan)
        self.jobs = (JOBS[0], JOBS[1 + environment.chance.randrange(2)])
        self.operators = SimulatedOperators(environment, plan, catalogue, self.view, self.jobs)
        self.network = SimulatedNetwork(environment.chance.random, environment.meets_at_attempt, environment.strikes)
        self.models: dict[str, StepModel] = {
            step.name: models[step.name](self.network) if step.name in models else Modelled(self.network, step)
            for step in plan.steps
        }
        self.groups = [
            Group(environment, COORDINATOR, catalogue.events.name, lambda member: CoordinatorRole(member, catalogue)),
            *(self._workers(step.name) for step in plan.steps),
        ]
        for group in self.groups:
            self.operators.may_move(group.name, group.move)
        environment.broker.on_append = self._appended

    def _workers(self, step: str) -> Group:
        topic = self.catalogue.commands(step).name
        return Group(
            self.environment, step, topic, lambda member: StepRole(member, step, self.catalogue, self._make_step)
        )

    def _make_step(self, planned: StepPlan, host: Host) -> Step:
        model = self.models[planned.name]
        if isinstance(model, Modelled):
            return Exposed(model.step(ModelledStep, planned.name, None, host), self.network)
        return Exposed(model.step(find_step(planned.use), planned.name, load_params(planned), host), self.network)

    def _appended(self, record: Stored) -> None:
        if record.topic == self.catalogue.sagas.name:
            self.view.take_in(record)
        if self.environment.traced:
            line = traced_record(record, self.catalogue, self.plan)
            if line:
                self.environment.say(line)

    # --- the course of it -----------------------------------------------------------------------------------------

    def run(self) -> Whole:
        environment = self.environment
        try:
            environment.loop.run_until_complete(self._live())
        except Stalled as error:
            environment.violate("when the faults stop, every saga ends or parks", "", str(error))
        finally:
            environment.loop.finish()
            for model in self.models.values():
                model.close()
        return Whole(
            self.seed,
            environment.planned,
            dict(environment.hits),
            tuple(self.view.phase(job).value for job in self.jobs),
            tuple(environment.violations),
            tuple(environment.story),
            sum(map(len, environment.broker.logs.values())),
        )

    async def _live(self) -> None:
        environment = self.environment
        plans = self.catalogue.plans.name
        environment.broker.append(Outgoing(plans, 0, PLAN_KEY + self.plan.hash.encode(), encode_plan(self.plan)))
        environment.broker.append(
            Outgoing(plans, 0, PIPELINE_KEY + self.plan.pipeline.encode(), self.plan.hash.encode())
        )
        for group in self.groups:
            group.start()
        for job in self.jobs:
            await asyncio.sleep(environment.chance.random() * 0.5)
            self.operators.submit(job)
        await asyncio.gather(*(self._act(one) for one in environment.of(BY_OPERATORS)))
        await self._rest()
        for one in environment.of(AFTERWARDS):
            await self.operators.afterwards(one, self._rest)
        environment.calm = True
        environment.say("nothing goes wrong any more")
        if await self._rest(CALM_LIMIT_S, QUIET_S):
            Checker(environment, self.plan, self.catalogue, self.view, self.models).judge(self.jobs)
        elif not environment.violations:
            environment.violate("when the faults stop, every saga ends or parks", self._restless(), "it does not")

    async def _act(self, planned: Planned) -> None:
        await asyncio.sleep(planned.at)
        await self.operators.act(planned, self._rest)

    async def _rest(self, limit_s: float = ROUGH_LIMIT_S, quiet_s: float = 4.0) -> bool:
        """Wait until nothing has moved for a while; False if that never came."""
        until = self.environment.loop.elapsed + limit_s
        while self.environment.loop.elapsed < until and not self.environment.violations:
            if self._quiet():
                await asyncio.sleep(quiet_s)
                if self._quiet():
                    return True
            await asyncio.sleep(POLL_S)
        return False

    def _quiet(self) -> bool:
        return (
            all(self.view.at_rest(job) for job in self.jobs)
            and not self.network.under_way()
            and not any(group.busy for group in self.groups)
        )

    def _restless(self) -> str:
        jobs = [f"{job} {self.view.phase(job)}" for job in self.jobs if not self.view.at_rest(job)]
        groups = [f"{group.name} lags" for group in self.groups if group.busy]
        return ", ".join((*jobs, *groups))


def traced_record(record: Stored, catalogue: Catalogue, plan: Plan) -> str:
    """Return a line for a record of the engine's own topics, or nothing for what a story doesn't need."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    job = (record.key or b"").decode(errors="replace")
    try:
        if record.topic == catalogue.events.name:
            event = decode_event(record.value, lambda _: plan)
            about = [str(value) for name in ("step", "seq") if (value := getattr(event, name, ""))]
            outcome_unknown = ["outcome unknown"] if isinstance(event, Failed) and event.outcome_unknown else []
            why = [str(why)] if (why := getattr(event, "reason", "")) else []
            return f"{where}  {job}: {type(event).__name__} {' '.join(about)} {', '.join((*why, *outcome_unknown))}".rstrip()
        if record.topic == catalogue.sagas.name:
            if record.value is None:
                return f"{where}  {job}: forgotten"
            state = decode_saga_fields(record.value)
            flights = zip(plan.steps, (step["in_flight"] for step in state["steps"]), strict=True)
            at = [f", {flight['action'].lower()} {planned.name}" for planned, flight in flights if flight]
            return f"{where}  {job}: {state['phase']}, run {state['run']}, seq {state['seq']}{''.join(at)}"
        if record.topic == catalogue.dead_letters.name:
            source = source_of(record.headers)
            return f"{where}  {job}: set aside: {source.reason if source else ''}"
        if record.topic.endswith(".commands"):
            command = decode_command(record.value)
            return (
                f"{where}  {job}: {command.action.lower()} {command.step}, seq {command.seq}, attempt {command.attempt}"
            )
    except BadRecord:
        return f"{where}  a record that nobody can read"
    return ""
