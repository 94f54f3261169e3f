"""People step in by the command line: cancel, resume what is parked, redrive from a step, replay to another topic."""

from __future__ import annotations

import json

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from tests.broker.saga_rig import PREFIX, Rig
from tests.broker.unruly_steps import mended

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


def park(rig: Rig, job: str) -> None:
    """Have a job fail at its last step, and its row resist being taken back."""
    rig.submit({job: {"notify": "fail", "load": "undo-fails"}})
    rig.until(lambda states: states.get(job, {}).get("phase") == "PARKED", f"the parking of {job}")


def ask(rig: Rig, *arguments: str) -> None:
    said = rig.cli(*arguments)
    assert said.returncode == 0, said.stderr


def test_a_running_job_is_cancelled(rig: Rig) -> None:
    """A job that hangs in a step is stopped there and undone, and keeps who asked for it and why."""
    rig.submit({"cancelled": {"load": "hang-after"}})
    rig.until(lambda states: "cancelled" in states and states["cancelled"]["steps"][4]["in_flight"], "the step load")
    ask(rig, "cancel", "cancelled", "--reason", "the shop asked us to stop")
    state = rig.ended(["cancelled"])["cancelled"]
    assert (state["phase"], state["failed_step"]) == ("COMPENSATED", "load")
    assert any("the shop asked us to stop" in act for act in state["operator_actions"])
    rig.check(["cancelled"])


def test_a_parked_job_tells_where_it_stands_and_goes_on_when_resumed(rig: Rig) -> None:
    """A compensation that fails for good parks its job, visibly; once the cause is mended, resume undoes the rest."""
    park(rig, "resumed")
    status = rig.status("resumed")
    assert "told not to undo" in status["reason"]
    assert rig.broken(["resumed"])  # its page, invoices or row are still there
    mended(rig.unruly, "resumed").touch()
    ask(rig, "resume", "resumed", "--reason", "ClickHouse is well again")
    state = rig.ended(["resumed"])["resumed"]
    assert state["phase"] == "COMPENSATED"
    assert any("ClickHouse is well again" in act for act in state["operator_actions"])
    rig.check(["resumed"])


def test_a_parked_job_can_go_on_without_what_cannot_be_undone(rig: Rig) -> None:
    """Skipping is recorded with its reason, the other steps are undone, and only the skipped effect may stay."""
    park(rig, "skipped")
    refused = rig.cli("resume", "skipped", "--skip")
    assert refused.returncode == 2
    ask(rig, "resume", "skipped", "--skip", "--reason", "the table is gone")
    state = rig.ended(["skipped"])["skipped"]
    assert state["phase"] == "COMPENSATED"
    assert any("the table is gone" in act for act in state["operator_actions"])
    load = [step["undo"] for step in state["steps"]][4]
    assert load == "SKIPPED"
    assert not any("page" in promise or "paid" in promise for promise in rig.broken(["skipped"]))


def test_what_makes_no_sense_is_refused_before_anything_is_sent(rig: Rig) -> None:
    """A job that has ended can't be cancelled or resumed, an unknown one not at all: exit code 1, and why."""
    rig.submit({"ended": {}})
    rig.ended(["ended"])
    for arguments, why in (
        (("cancel", "ended"), "only a running or parked job"),
        (("resume", "ended"), "only a parked job"),
        (("redrive", "ended", "--from", "nowhere"), "no step 'nowhere'"),
        (("cancel", "never-heard-of"), "no job 'never-heard-of'"),
    ):
        said = rig.cli(*arguments)
        assert (said.returncode, why in said.stderr) == (1, True), said.stderr
    rig.check(["ended"])


def test_a_redrive_from_parse_costs_no_fetch_and_no_paid_call(rig: Rig) -> None:
    """The archived page is parsed again and the paid results of the same content are used again."""
    rig.submit({"redriven": {}})
    before = rig.ended(["redriven"])["redriven"]
    fetched, charged = rig.fetched(), rig.charged()
    ask(rig, "redrive", "redriven", "--from", "parse", "--reason", "a better parser")
    rig.until(
        lambda states: states["redriven"]["run"] > before["run"] and states["redriven"]["phase"] == "COMPLETED",
        "the second run",
    )
    assert (rig.fetched(), rig.charged()) == (fetched, charged)
    state = rig.status("redriven")
    assert [step["status"] for step in state["steps"]] == ["REUSED", *["SUCCEEDED"] * 5]
    assert {"redriven"} == rig.warehouse() & {"redriven"}


def test_replay_produces_a_topic_again_elsewhere(rig: Rig) -> None:
    """Records come as they were, key, value and headers, to a topic of one's own; the engine's are refused."""
    rig.submit({"replayed": {}})
    rig.ended(["replayed"])
    admin = AdminClient({**rig.engine.client, "log_level": 0})
    for made in admin.create_topics([NewTopic("elsewhere", 3)]).values():
        made.result(30)
    ask(rig, "replay", "--from", "0", "--topic", "records", "--job", "replayed", "--to-topic", "elsewhere")
    original = [one for one in rig.reader.records(f"{PREFIX}.records") if one.key == b"replayed"]
    copies = [*rig.reader.records("elsewhere")]
    assert [(one.key, one.value, one.headers) for one in copies] == [
        (one.key, one.value, one.headers) for one in original
    ]
    refused = rig.cli("replay", "--from", "0", "--topic", "records", "--to-topic", "sagas")
    assert (refused.returncode, "only the engine may write to" in refused.stderr) == (1, True)


def test_replayed_requests_start_nothing_twice(rig: Rig) -> None:
    """Replaying dead letters or requests onto scrape.urls is safe: jobs that are known are duplicates."""
    rig.submit({"asked-again": {}})
    before = rig.ended(["asked-again"])["asked-again"]
    said = rig.cli("replay", "--from", "0", "--topic", "urls", "--job", "asked-again", "--json")
    request = json.loads(said.stdout.splitlines()[0])
    assert request["value"]["job_id"] == "asked-again"
    again = [one for one in rig.reader.records(f"{PREFIX}.urls") if b"asked-again" in (one.value or b"")]
    rig.produce(f"{PREFIX}.urls", [(one.key, one.value) for one in again])
    rig.wait_for(lambda: not any(rig.lags().values()), "the end of the lag")
    after = rig.ended(["asked-again"])["asked-again"]
    assert (after["run"], after["phase"]) == (before["run"], "COMPLETED")
    rig.check(["asked-again"])
