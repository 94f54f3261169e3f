"""Processors die between send and save, the broker comes and goes, workers share partitions: the outside stays right."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from processors.demo.demo import STEPS
from processors.demo.kills import running
from processors.process.roles import COORDINATOR, INTAKE
from tests.broker import failpoints, unruly_steps
from tests.broker.saga_rig import Rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

# Where each processor dies: after what it does has happened, and before it says so; after it said so, and before it
# acknowledged what it was told.
WAVES = {
    "done, not told": {INTAKE: "before .events", COORDINATOR: "before .commands", **dict.fromkeys(STEPS, "before .events")},
    "told, not acknowledged": {
        INTAKE: "after .events",
        COORDINATOR: "after .sagas",
        **dict.fromkeys(STEPS, "after .events"),
    },
    "begun, or sent and not saved": {
        COORDINATOR: "after .commands",
        "fetch": "after .pages",
        "enrich": "after .spend",
        "classify": "before .spend",
        "notify": "after .records",
    },
}  # fmt: skip


@pytest.mark.parametrize("wave", WAVES)
def test_a_processor_that_dies_between_send_and_save_repeats_and_doubles_nothing(rig: Rig, wave: str) -> None:
    """Each is killed by SIGKILL at that very point; its successor goes on, and every job completes, once."""
    restarts = {name: state.restarts for name, state in rig.engine.supervisor.states().items()}
    name, jobs = wave.replace(",", "").replace(" ", "-"), dict[str, dict[str, str]]()

    def submit_some() -> None:
        # One in four fails late, so that compensations are cut short, too.
        some = {f"{name}-{len(jobs) + n}": {} if n else {"notify": "fail-after"} for n in range(4)}
        jobs.update(some)
        rig.submit(some)

    submit_some()
    rig.ended(jobs)

    def has_died(role: str, most_jobs: int) -> bool:
        if len(jobs) < most_jobs:
            submit_some()
        return role not in failpoints.armed(rig.failpoints)

    # From the end to the beginning: those before go on feeding the next to die, while those behind come back.
    for role in reversed((INTAKE, COORDINATOR, *STEPS)):
        if role in WAVES[wave]:
            failpoints.arm(rig.failpoints, role, WAVES[wave][role])
            # Some for each: with a number for all of them together a slow machine has nothing left to kill the last one by.
            rig.wait_for(partial(has_died, role, len(jobs) + 40), f"the death of {role}")
    states = rig.ended(jobs)
    after = rig.engine.supervisor.states()
    assert all(after[role].restarts > restarts[role] for role in WAVES[wave])
    assert all(after[role].last_exit_status == -signal.SIGKILL for role in WAVES[wave])
    assert {job: state["phase"] == "COMPENSATED" for job, state in states.items()} == {
        job: bool(wishes) for job, wishes in jobs.items()
    }
    rig.check(jobs)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_broker_comes_and_goes(rig: Rig, how: str) -> None:
    """The broker is restarted in order, or killed, under load: the same processes go on, and every job completes."""
    assert rig.engine.kafka is not None
    jobs = [f"broker-{how}-{number}" for number in range(20)]
    rig.submit({job: {} for job in jobs})
    rig.until(lambda states: any(job in states for job in jobs), "the first job")
    if how == "kill":
        rig.engine.kafka.kill()
        rig.engine.kafka.start()
    else:
        rig.engine.kafka.restart()
    states = rig.ended(jobs)
    assert {state["phase"] for state in states.values()} == {"COMPLETED"}
    rig.check(jobs)


def test_two_workers_of_a_role_share_its_partitions_under_load(rig: Rig) -> None:
    """A second coordinator and a second worker of a step join, one first worker is a zombie for a while, all leave."""
    seconds = {COORDINATOR: "coordinator-2", "enrich": "enrich-2"}
    jobs = [f"shared-{number}" for number in range(40)]
    rig.submit({job: {} for job in jobs[:15]})
    for role, name in seconds.items():
        rig.engine.start_process(role, name=name)
    try:
        rig.wait_for(lambda: not rig.engine.not_ready(), "both workers' readiness")
        rig.submit({job: {} for job in jobs[15:30]})
        zombie = running(rig.engine, COORDINATOR)
        os.kill(zombie, signal.SIGSTOP)
        try:
            # Only the second can end these: the first one's partitions are its own by then.
            states = rig.ended(jobs[:30])
        finally:
            os.kill(zombie, signal.SIGCONT)
        rig.submit({job: {} for job in jobs[30:]})
        rig.wait_for(lambda: not rig.engine.not_ready(), "the zombie's return")
    finally:
        for name in seconds.values():
            rig.engine.stop_process(name)
    states |= rig.ended(jobs)
    assert {state["phase"] for state in states.values()} == {"COMPLETED"}
    rig.check(jobs)


def freezing(rig: Rig) -> list[int]:
    """The processes that jobs have chosen to freeze."""
    return [int(text) for path in rig.unruly.glob("frozen-*") if (text := path.read_text())]


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, as Linux tells; else that has to be taken on trust."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(") ", 1)[1][0] == "T"


def test_a_success_that_comes_after_the_compensation_is_undone_again(rig: Rig) -> None:
    """A worker freezes between effect and answer, another takes over and fails, the saga is compensated, the zombie wakes.

    Its late answer is evidence of an effect, or of one written after the compensation: what is left outside is nothing.
    """
    late = {f"late-{step}": step for step in ("fetch", "enrich", "load", "notify")}
    for step in late.values():
        rig.engine.start_process(step, name=f"{step}-2")
    try:
        rig.wait_for(lambda: not rig.engine.not_ready(), "the second workers' readiness")
        rig.submit({job: {step: "freeze-after"} for job, step in late.items()})
        rig.wait_for(lambda: [is_stopped(pid) for pid in freezing(rig)] == [True] * 4, "the freezing of four")
        before: dict[str, int] = {}

        def wake_behind_the_compensated(states: dict[str, dict[str, Any]]) -> bool:
            for job in late.keys() - before.keys():
                if states[job]["phase"] == "COMPENSATED":
                    before[job] = states[job]["seq"]
                    os.kill(int(unruly_steps.frozen(rig.unruly, job).read_text()), signal.SIGCONT)
            return before.keys() == late.keys()

        rig.until(wake_behind_the_compensated, "the first compensations")
        # Each state takes a number: a late answer has been seen once there is a higher one. A zombie that slept for
        # longer than its producer waits may end instead, and then has written nothing since.
        rig.until(
            lambda states: (
                any(states[job]["seq"] > before[job] for job in late)
                and all(states[job]["phase"] == "COMPENSATED" for job in late)
            ),
            "a second compensation",
        )
        rig.wait_for(lambda: not any(rig.lags().values()), "the end of the lag")
    finally:
        for pid in freezing(rig):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for step in late.values():
            rig.engine.stop_process(f"{step}-2")
    rig.check(late)


def test_the_log_explains_all_of_it(rig: Rig) -> None:
    """After all the kills nobody lags, and the audit derives every state and command from the log, byte for byte."""
    rig.wait_for(lambda: not any(rig.lags().values()), "the end of the lag")
    assert rig.divergences() == ()
