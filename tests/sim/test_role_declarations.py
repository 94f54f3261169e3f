"""What a role declares is what it does: in whole histories the roles write to the topics that they name, and to no other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

from processors.kafka.producer import Outgoing
from processors.process.roles import COORDINATOR, ROLES
from processors.process.step import step_role
from processors.saga.plan import Resubmit
from processors.simulation.engine.consumer_group import Member
from processors.simulation.engine.kafka import Wire
from processors.simulation.engine.report import run_whole, silence
from tests.sim.plans import shop
from topics.catalogue import Catalogue

pytestmark = pytest.mark.timeout(300)


def test_roles_write_to_the_topics_that_they_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever grants rights by the declarations, topic by topic, grants enough; and what the engine needs is declared."""
    written: defaultdict[str, set[str]] = defaultdict(set)
    send = Wire.send

    async def noted(self: Wire, items: Sequence[Outgoing]) -> list[int]:
        if isinstance(self._process, Member):
            written[self._process.group.name] |= {item.topic for item in items}
        return await send(self, items)

    monkeypatch.setattr(Wire, "send", noted)
    plan = shop(Resubmit.ALWAYS)
    with silence():
        run_whole(range(30), plan)
    catalogue = Catalogue(steps=tuple(step.name for step in plan.steps))
    for group, topics in written.items():
        role = ROLES[COORDINATOR] if group == COORDINATOR else step_role(group)
        assert topics <= {topic.name for topic in role.topics(catalogue)[1]}, role.name
    assert written[COORDINATOR] >= {topic.name for topic in map(catalogue.commands, catalogue.steps)}
    assert written.keys() == {COORDINATOR, *catalogue.steps}
    assert written[catalogue.steps[0]] >= {catalogue.events.name, catalogue.results(catalogue.steps[0]).name}
