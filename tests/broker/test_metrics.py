"""What /metrics says of an engine is what its topics say, before and after a coordinator that is killed."""

from __future__ import annotations

import signal
import time
from typing import NamedTuple

import pytest

from tests.broker.observed_world import Engine, Role, Samples, until

pytestmark = pytest.mark.broker


class Before(NamedTuple):
    """What the two processes had counted before this module's jobs."""

    coordinator: Samples
    worker: Samples


@pytest.fixture(scope="module")
def before(observed: Engine) -> Before:
    """The counts before, and then sagas in every phase: 3 completed, 2 compensated, 1 parked, 2 that hang, 2 forgotten."""
    counted = Before(observed.coordinator.metrics(), observed.worker.metrics())
    for number in range(2):
        observed.submit(f"brief-{number}", "brief")
        observed.submit(f"done-{number}")
        observed.submit(f"undone-{number}", second="fail")
        observed.submit(f"hanging-{number}", second="hang")
    observed.submit("retried", first="retry")
    observed.submit("stuck", second="fail", undo="refuse")
    observed.submit("nonsense", "no such pipeline")
    wanted = {"stuck": "PARKED", "retried": "COMPLETED"}
    for number in range(2):
        wanted |= {f"done-{number}": "COMPLETED", f"undone-{number}": "COMPENSATED", f"hanging-{number}": "RUNNING"}
    until(lambda: observed.phases_of(wanted) == wanted, f"{wanted} in scrape.sagas")
    until(lambda: added(observed.coordinator, counted.coordinator, *FORGOTTEN) == 2, "both brief jobs forgotten")
    # A saga is RUNNING from its first step on; both have to hang in their second before anything is counted.
    in_flight = "scrapesaga_steps_in_flight", ("step", "second")
    until(lambda: added(observed.worker, counted.worker, *in_flight) == 2, "both hanging steps in flight")
    return counted


@pytest.fixture
def engine(observed: Engine, before: Before) -> Engine:
    """The engine, with this module's sagas."""
    return observed


FORGOTTEN = "scrapesaga_transitions_total", ("note", "forgotten")


def added(role: Role, before: Samples, name: str, *labels: tuple[str, str]) -> float:
    """Return how much a sample has grown."""
    key = name, frozenset(labels)
    return role.metrics().get(key, 0.0) - before.get(key, 0.0)


def test_sagas_by_phase_and_timers_are_those_of_the_topic(engine: Engine, before: Before) -> None:
    """The gauges agree with the compacted view of scrape.sagas; forgotten sagas are in neither."""
    until(lambda: engine.shown() == engine.phases(), "gauges as the topic")
    armed = sum(1 for state in engine.states().values() if state["due_ms"])
    assert engine.coordinator.value("scrapesaga_armed_timers") == armed
    assert not {"brief-0", "brief-1"} & engine.states().keys()
    assert added(engine.coordinator, before.coordinator, *FORGOTTEN) == 2


def test_the_age_of_the_oldest_is_told_by_phase(engine: Engine) -> None:
    """Hanging and parked sagas have an age that grows from their run's start; nothing is compensating, so that is 0."""
    states = engine.states().values()
    now_ms = time.time() * 1000
    for phase in ("RUNNING", "PARKED"):
        began = min(state["started_ms"] for state in states if state["phase"] == phase)
        shown = engine.coordinator.value("scrapesaga_oldest_unfinished_seconds", phase=phase)
        assert (now_ms - began) / 1000 - 1 <= shown <= (time.time() * 1000 - began) / 1000 + 2
    assert engine.coordinator.value("scrapesaga_oldest_unfinished_seconds", phase="COMPENSATING") == 0


def test_what_happened_is_counted_by_step(engine: Engine, before: Before) -> None:
    """Retries, parked sagas, compensations, step latencies and requests set aside carry their step or topic."""

    def coordinator(name: str, **labels: str) -> float:
        return added(engine.coordinator, before.coordinator, name, *labels.items())

    def worker(name: str, **labels: str) -> float:
        return added(engine.worker, before.worker, name, *labels.items())

    assert coordinator("scrapesaga_retries_total", step="first") == 1
    assert coordinator("scrapesaga_parked_total", step="first") == 1
    assert coordinator("scrapesaga_commands_total", step="first", action="COMPENSATE") == 3
    assert coordinator("scrapesaga_saga_seconds_count", phase="COMPLETED") == 5
    assert worker("scrapesaga_step_seconds_count", step="first", action="COMPENSATE", outcome="succeeded") == 2
    assert worker("scrapesaga_steps_in_flight", step="second") == 2
    assert worker("scrapesaga_accepted_total", pipeline="default") == 8
    assert worker("scrapesaga_dead_letters_total", topic=engine.catalogue.urls.name) == 1


def test_the_lag_is_what_is_not_done(engine: Engine) -> None:
    """A partition's lag counts the commands in work from the oldest one on, and is 0 where nothing is open."""
    topic = engine.catalogue.commands("second").name
    first_undone: dict[int, int] = {}
    ends: dict[int, int] = {}
    for record in engine.reader.records(topic):
        ends[record.partition] = record.offset + 1
        if (record.key or b"").startswith(b"hanging") and record.partition not in first_undone:
            first_undone[record.partition] = record.offset
    for partition, end in ends.items():
        expected = end - first_undone.get(partition, end)
        shown = engine.worker.value("scrapesaga_consumer_lag", topic=topic, partition=str(partition))
        assert shown == expected, (partition, expected)
    events = engine.catalogue.events.name
    until(
        lambda: all(
            engine.coordinator.value("scrapesaga_consumer_lag", topic=events, partition=str(number)) == 0
            for number in range(2)
        ),
        "no lag of the coordinator",
    )


def test_no_label_carries_a_job(engine: Engine) -> None:
    """Labels are steps, phases, topics and the like: the number of series doesn't grow with jobs."""
    jobs = set(engine.states()) | {"brief-0", "brief-1", "nonsense"}
    for role in (engine.coordinator, engine.worker):
        for name, labels in role.metrics():
            for label, value in labels:
                assert label != "job_id" and value not in jobs, name


def test_a_killed_coordinator_shows_the_same_after_its_restart(engine: Engine) -> None:
    """Gauges are filled from the restored table, and later moves are counted from there."""
    before = engine.shown()
    engine.coordinator.end(signal.SIGKILL)
    engine.coordinator.start()
    until(engine.coordinator.ready, "the coordinator ready again")
    assert engine.shown() == before == engine.phases()
    assert engine.coordinator.value("scrapesaga_recovery_seconds") > 0
    oldest = min(state["started_ms"] for state in engine.states().values() if state["phase"] == "RUNNING")
    shown = engine.coordinator.value("scrapesaga_oldest_unfinished_seconds", phase="RUNNING")
    assert shown >= time.time() - oldest / 1000 - 2
    engine.submit("later")
    wanted = {**before, "COMPLETED": before["COMPLETED"] + 1}
    until(lambda: engine.shown() == wanted == engine.phases(), "one more, in the gauges and in the topic")


def test_the_version_that_runs_is_shown(engine: Engine) -> None:
    """Each process names its version and its roles."""
    roles = [
        dict(labels)["roles"]
        for role in (engine.coordinator, engine.worker)
        for (name, labels), value in role.metrics().items()
        if name == "scrapesaga_build_info" and value == 1
    ]
    assert roles == ["coordinator", "intake,first,second,fetch"]
