"""The auditor over simulated histories of the whole engine: zombies, crashes, redelivery and poison are no broken promise."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from processors.auditor.auditor import Auditor
from processors.auditor.scope import Scope
from processors.kafka.record import Record
from processors.pipeline.plan_store import UnknownPlan
from processors.saga.plan import Plan
from processors.simulation.engine.faults import EngineFault, drawn
from processors.simulation.engine.history import _History, shortened
from tests.sim.plans import shop

HISTORIES = 60
#: Not followed: the auditor reads neither the trail of results nor pages.
LEFT_OUT = (".results", ".pages", ".plans")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The simulated processes log every fault."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def audited(history: _History) -> Auditor:
    """Read the topics of a history, one after the other, those that follow from events first."""
    plan, events = history.plan, history.catalogue.events

    def plans(plan_hash: str) -> Plan:
        if plan_hash != plan.hash:
            raise UnknownPlan(plan_hash)
        return plan

    auditor = Auditor(Scope(history.catalogue, dict.fromkeys(range(events.partitions), 0)), plans)
    logs = sorted(history.environment.broker.logs.items(), key=lambda one: one[0][0] == events.name)
    for (topic, partition), log in logs:
        if topic.endswith(LEFT_OUT):
            continue
        for one in log:
            record = Record(topic, partition, one.offset, one.timestamp, one.key, one.value, tuple(one.headers))
            if topic != events.name:
                auditor.other(record)
                continue
            try:
                auditor.event(record)
            except UnknownPlan:
                auditor.unreadable(record)
    for topic, partition in {*auditor.waits_for(), *((events.name, number) for number in range(events.partitions))}:
        auditor.watermark.at_end(topic, partition, auditor.watermark.records_read)
    auditor.settle(history.environment.broker.now_ms)
    return auditor


def test_faults_that_the_engine_survives_are_no_broken_promise() -> None:
    """Of every history whose judge has nothing to say the auditor has nothing to say, whatever went wrong in it."""
    plan = shop()
    hit: set[EngineFault] = set()
    events = 0
    for seed in range(HISTORIES):
        history = _History(seed, shortened(plan), {}, drawn(seed, plan), False)
        whole = history.run()
        auditor = audited(history)
        if not whole.violations:
            assert auditor.examples == [], f"seed {seed}"
        hit |= whole.hits.keys()
        events += auditor.events
    assert len(hit) > 20
    assert events > 10 * HISTORIES
