"""The command line against a running engine: what it says is what the topics hold, and a request has its answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # not in its __all__
from typer.testing import CliRunner, Result

from processors.cli.app import app
from processors.cli.errors import Exit
from processors.operations.queries import JobState
from tests.broker.observed_world import Engine, until
from topics.cluster import Cluster

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

Run = Callable[..., Result]


@pytest.fixture
def engine(observed: Engine) -> Engine:
    """An engine of two processes with steps that do as they are told."""
    return observed


def runner(env: dict[str, str]) -> Run:
    """Run a command in an environment, and see how it ends."""

    def run(*arguments: str, ends: int = Exit.OK) -> Result:
        result = CliRunner().invoke(app, list(arguments), env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == ends, result.output
        return result

    return run


@pytest.fixture
def run(engine: Engine) -> Run:
    """The command line, with the engine's settings."""
    return runner(engine.env)


@pytest.fixture
def job() -> str:
    """An identity that no other test uses."""
    return f"job-{uuid.uuid4().hex[:8]}"


def submit(run: Run, job: str, **payload: str) -> None:
    """Ask for one URL whose steps do what the payload says."""
    told = ("--payload", json.dumps(payload), "--pipeline", "default", "--label", job)
    sent = run("submit", f"https://shop.test/{job}", "--job-id", job, *told)
    assert sent.stdout.split() == [job]


def reaches(engine: Engine, job: str, wanted: str) -> None:
    """Wait until a job is in a phase."""
    until(lambda: engine.states().get(job, {}).get("phase") == wanted, f"{job} {wanted}")


def state(result: Result) -> dict[str, Any]:
    """The one JSON object that a command printed."""
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_job_is_submitted_looked_at_and_listed(engine: Engine, run: Run, job: str) -> None:
    """What was asked for by one command is found by the others, by id, label, pipeline, phase and time."""
    submit(run, job)
    assert "COMPLETED" in run("watch", job, "--seconds", "60").stdout
    assert state(run("status", job, "--json"))["phase"] == "COMPLETED"
    assert job in run("status", job).stdout
    mine = ("--label", job, "--json")
    assert state(run("list", *mine, "--phase", "completed", "--pipeline", "default", "--since", "1h"))["job_id"] == job
    for other in (("--phase", "parked"), ("--pipeline", "brief"), ("--since", "2100-01-01")):
        assert run("list", *mine, *other).stdout == ""
    assert job in run("list", "--label", job).stdout


def test_a_cancellation_is_answered(engine: Engine, run: Run, job: str) -> None:
    """The command returns with the state that the coordinator made of it, and the act is on record."""
    submit(run, job, second="hang")
    reaches(engine, job, "RUNNING")
    answer = state(run("cancel", job, "--reason", "enough", "--json"))
    assert answer["phase"] in ("COMPENSATING", "COMPENSATED")
    assert any("enough" in act for act in answer["operator_actions"])
    reaches(engine, job, "COMPENSATED")
    assert "COMPENSATED: only a running or parked job" in run("cancel", job, ends=Exit.REFUSED).output


def test_a_parked_job_is_resumed_or_skipped(engine: Engine, run: Run, job: str) -> None:
    """A retry that can't work parks again; a skip lets go of what can't be undone, and says who did it."""
    submit(run, job, second="fail", undo="refuse")
    reaches(engine, job, "PARKED")
    parked = engine.states()[job]["seq"]
    assert state(run("resume", job, "--json"))["seq"] > parked
    until(lambda: engine.states()[job]["phase"] == "PARKED" and engine.states()[job]["seq"] > parked, "parked again")
    assert "done, it is COMPENSATED" in run("resume", job, "--skip", "--reason", "gone anyway").stderr
    assert any("gone anyway" in act for act in state(run("status", job, "--json"))["operator_actions"])


def test_a_finished_job_is_redriven_from_a_step(engine: Engine, run: Run, job: str) -> None:
    """The answer is the first state of the new run; --no-wait returns without one."""
    submit(run, job)
    reaches(engine, job, "COMPLETED")
    before = engine.states()[job]["run"]
    assert state(run("redrive", job, "--from", "second", "--json"))["run"] > before
    reaches(engine, job, "COMPLETED")
    assert "not awaited" in run("redrive", job, "--from", "first", "--no-wait").stderr
    until(lambda: engine.states()[job]["run"] > before + 1, "the second redrive")
    assert "no step 'third'" in run("redrive", job, "--from", "third", ends=Exit.REFUSED).output


def test_the_coordinators_refusal_is_told(engine: Engine, run: Run, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that came too late for what the command saw ends with 1 and the coordinator's own reason."""
    submit(run, job)
    reaches(engine, job, "COMPLETED")
    # What a command sees that is overtaken: the job as it was a moment before.
    seen = {**engine.states()[job], "phase": "RUNNING"}
    monkeypatch.setattr("processors.operations.operator_requests.status_in", lambda _session, _job: JobState(seen))
    assert "the coordinator refused: " in run("cancel", job, ends=Exit.REFUSED).output


def test_a_request_without_a_coordinator_is_kept(engine: Engine, run: Run, job: str) -> None:
    """Nobody answers: exit code 5; once a coordinator runs, the request has its effect."""
    submit(run, job, second="hang")
    reaches(engine, job, "RUNNING")
    assert engine.coordinator.end() == 0
    try:
        assert "does a coordinator run?" in run("cancel", job, "--wait", "1", ends=Exit.UNANSWERED).output
    finally:
        engine.coordinator.start()
    reaches(engine, job, "COMPENSATED")


@pytest.mark.parametrize("command", ["status", "cancel", "resume", "audit"])
def test_a_job_that_there_isnt_is_one_sentence(run: Run, command: str) -> None:
    """Exit code 1, the name, and no traceback."""
    result = run(command, "no-such-job", ends=Exit.REFUSED)
    assert "no-such-job" in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_log_explains_all_that_was_done_here(engine: Engine, run: Run) -> None:
    """After everything above, the audit folds the events to exactly these states and commands."""
    counts = state(run("audit", "verify", "--json"))
    assert counts["divergences"] == 0 and counts["states"] > 0


# --- topics -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(kafka_servers: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of an engine whose topics nobody has made yet."""
    return {
        "SCRAPESAGA_BOOTSTRAP_SERVERS": kafka_servers,
        "SCRAPESAGA_TOPIC_PREFIX": f"bare{uuid.uuid4().hex[:8]}",
        "SCRAPESAGA_PARTITIONS": "2",
        "SCRAPESAGA_PIPELINES": "",
        "SCRAPESAGA_DATA_DIR": str(tmp_path_factory.mktemp("bare")),
    }


def test_topics_are_planned_applied_and_verified(bare: dict[str, str]) -> None:
    """Nothing there: verify ends with 3 and says what mends it; apply makes them, once; then all agree."""
    run, prefix = runner(bare), bare["SCRAPESAGA_TOPIC_PREFIX"]
    planned = [json.loads(line) for line in run("topics", "plan", "--json").stdout.splitlines()]
    assert {one["difference"] for one in planned} == {f"{one['topic']} is missing" for one in planned}
    assert f"{prefix}.events is missing" in run("topics", "verify", ends=Exit.UNUSABLE).stderr
    assert len(run("topics", "apply").stdout.splitlines()) == len(planned)
    assert run("topics", "apply").stdout == ""
    assert run("topics", "verify", "--json").stdout == ""
    assert "topics are as declared" in run("topics", "plan").stderr


def test_a_configuration_that_somebody_changed_is_mended(bare: dict[str, str], kafka_servers: str) -> None:
    """Plan shows what it is and what it should be; apply sets it back."""
    run, prefix = runner(bare), bare["SCRAPESAGA_TOPIC_PREFIX"]
    run("topics", "apply")
    Cluster({"bootstrap.servers": kafka_servers}).configure(f"{prefix}.events", {"retention.ms": "1000"})
    until(lambda: "retention.ms is 1000" in run("topics", "plan").stdout, "the changed configuration")
    assert "retention.ms is 1000" in run("topics", "apply").stdout
    run("topics", "verify")


def test_a_wrong_number_of_partitions_is_never_mended_in_place(bare: dict[str, str], kafka_servers: str) -> None:
    """Keys would move: plan ends with 1, apply and verify with 3, each says why; what may grow grows."""
    run, prefix = runner(bare), bare["SCRAPESAGA_TOPIC_PREFIX"]
    run("topics", "apply")
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    admin.create_partitions([NewPartitions(f"{prefix}.sagas", 5)])[f"{prefix}.sagas"].result(20)
    until(lambda: CliRunner().invoke(app, ["topics", "plan"], env=bare).exit_code == Exit.REFUSED, "the new partitions")
    assert "sagas has 5 partitions, not 2" in run("topics", "plan", ends=Exit.REFUSED).stdout
    assert "keys would move" in run("topics", "apply", ends=Exit.UNUSABLE).stderr
    assert "keys would move" in run("topics", "verify", ends=Exit.UNUSABLE).stderr
    assert json.loads(run("topics", "verify", "--json", ends=Exit.UNUSABLE).stdout)["topic"] == f"{prefix}.sagas"
