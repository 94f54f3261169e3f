"""Random plans in random worlds, move by move, shrunk by Hypothesis when a promise breaks."""

from __future__ import annotations

import random
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from processors.saga.plan import Plan, Resubmit, RetryPolicy, StepPlan
from processors.simulation.rules.faults import GENEROUS
from processors.simulation.rules.history import calm_down, check_traced
from processors.simulation.rules.moves import choices, perform
from processors.simulation.rules.world import World
from tests.sagas import plan, step

POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 3),
    base_ms=st.sampled_from([0, 1_000]),
    cap_ms=st.just(8_000),
    total_ms=st.sampled_from([500, 60_000, 10_000_000]),
)


@st.composite
def steps(draw: Any, number: int) -> StepPlan:
    """Any kind of step, with any policies."""
    kind = draw(st.sampled_from(["page", "paid", "row", "record", "none"]))
    return step(
        f"s{number}",
        use=f"sim:{kind}",
        undoable=kind != "none" and draw(st.booleans() if kind == "page" else st.just(True)),
        confirms=kind == "row" and draw(st.booleans()),
        retry=draw(POLICIES),
        undo_retry=draw(POLICIES),
    )


@st.composite
def plans(draw: Any) -> Plan:
    """One to five steps under any resubmit policy; the record has one place, so only one step writes it."""
    drawn = [draw(steps(number)) for number in range(draw(st.integers(1, 5)))]
    once = [one for place, one in enumerate(drawn) if one.use not in {other.use for other in drawn[:place]}]
    return plan(once, resubmit=draw(st.sampled_from(Resubmit)), deadline_ms=draw(st.sampled_from([0, 90_000])))


class Wandering(RuleBasedStateMachine):
    """A world in which Hypothesis chooses what happens next."""

    world: World

    @initialize(plan=plans())
    def begin(self, plan: Plan) -> None:
        """Nothing has happened yet."""
        self.world = World(plan, GENEROUS, traced=True)

    @rule(which=st.integers(0, 10_000))
    def move(self, which: int) -> None:
        """Anything that may happen happens."""
        if moves := choices(self.world):
            perform(self.world, moves[which % len(moves)])

    @rule(which=st.integers(0, 10_000))
    def ordinary_move(self, which: int) -> None:
        """Something ordinary happens."""
        if moves := choices(self.world, ordinary=True):
            perform(self.world, moves[which % len(moves)])

    @invariant()
    def no_invariant_is_violated(self) -> None:
        """Whatever happened."""
        assert not self.world.violations, "\n".join([*self.world.trace, *map(str, self.world.violations)])

    def teardown(self) -> None:
        """When the faults stop, the saga ends or parks, and the log tells the same story."""
        if not hasattr(self, "world"):
            return
        calm_down(self.world, random.Random(0), [])
        if not self.world.violations:
            check_traced(self.world)
        self.no_invariant_is_violated()


TestWandering = Wandering.TestCase
TestWandering.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
