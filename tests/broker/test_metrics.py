"""What /metrics says of an engine is what its topics say, before and after a coordinator that is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.broker.observed_world import Engine, until

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def engine(kafka_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with sagas in every phase: 3 completed, 2 compensated, 1 parked, 2 that hang, 2 forgotten."""
    with Engine(kafka_servers, tmp_path_factory.mktemp("metrics"), "metrics") as engine:
        for number in range(2):
            engine.submit(f"brief-{number}", "brief")
            engine.submit(f"done-{number}")
            engine.submit(f"undone-{number}", second="fail")
            engine.submit(f"hanging-{number}", second="hang")
        engine.submit("retried", first="retry")
        engine.submit("stuck", second="fail", undo="refuse")
        engine.submit("nonsense", "no such pipeline")
        wanted = {"COMPLETED": 3, "COMPENSATED": 2, "PARKED": 1, "RUNNING": 2}
        until(lambda: engine.phases() == wanted, f"{wanted} in scrape.sagas")
        yield engine


def test_sagas_by_phase_and_timers_are_those_of_the_topic(engine: Engine) -> None:
    """The gauges agree with the compacted view of scrape.sagas; forgotten sagas are in neither."""
    until(lambda: engine.shown() == engine.phases(), "gauges as the topic")
    armed = sum(1 for state in engine.states().values() if state["due_ms"])
    assert engine.coordinator.value("scrapesaga_armed_timers") == armed
    assert engine.coordinator.value("scrapesaga_transitions_total", note="forgotten") == 2


def test_the_age_of_the_oldest_is_told_by_phase(engine: Engine) -> None:
    """Hanging and parked sagas have an age that grows from their run's start; nothing is compensating, so that is 0."""
    states = engine.states().values()
    now_ms = time.time() * 1000
    for phase in ("RUNNING", "PARKED"):
        began = min(state["started_ms"] for state in states if state["phase"] == phase)
        shown = engine.coordinator.value("scrapesaga_oldest_unfinished_seconds", phase=phase)
        assert (now_ms - began) / 1000 - 1 <= shown <= (time.time() * 1000 - began) / 1000 + 2
    assert engine.coordinator.value("scrapesaga_oldest_unfinished_seconds", phase="COMPENSATING") == 0


def test_what_happened_is_counted_by_step(engine: Engine) -> None:
    """Retries, parked sagas, compensations, step latencies and requests set aside carry their step or topic."""
    coordinator, worker = engine.coordinator.metrics(), engine.worker.metrics()

    def of(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
        return samples.get((name, frozenset(labels.items())), 0.0)

    assert of(coordinator, "scrapesaga_retries_total", step="first") == 1
    assert of(coordinator, "scrapesaga_parked_total", step="first") == 1
    assert of(coordinator, "scrapesaga_commands_total", step="first", action="COMPENSATE") == 3
    assert of(coordinator, "scrapesaga_saga_seconds_count", phase="COMPLETED") == 5
    done = {"step": "first", "action": "COMPENSATE", "outcome": "succeeded"}
    assert of(worker, "scrapesaga_step_seconds_count", **done) == 2
    assert of(worker, "scrapesaga_steps_in_flight", step="second") == 2
    assert of(worker, "scrapesaga_accepted_total", pipeline="default") == 8
    assert of(worker, "scrapesaga_dead_letters_total", topic=engine.catalogue.urls.name) == 1


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
    assert roles == ["coordinator", "intake,first,second"]
