"""One saga's trace over three processes, as a real OTLP receiver gets it; and what the log lines of the same run say."""

from __future__ import annotations

import json

import pytest

from tests.broker.observed_world import SECRET, Engine, until
from tests.broker.otlp_receiver import Receiver

pytestmark = pytest.mark.broker

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def engine(observed: Engine, receiver: Receiver) -> Engine:
    """The engine that tells the receiver, with one saga that fetched, one undone and one parked."""
    engine = observed
    parent = f"00-{TRACE_ID}-{SPAN_ID}-01"
    engine.submit("traced", "fetching", traceparent=parent, url=f"{receiver.url}/p?token={SECRET}", first="retry")
    engine.submit("traced-undone", second="fail")
    engine.submit("traced-stuck", second="fail", undo="refuse")
    engine.submit("traced-quiet", traceparent=f"00-{'1' * 32}-{SPAN_ID}-00")
    wanted = {
        "traced": "COMPLETED",
        "traced-undone": "COMPENSATED",
        "traced-stuck": "PARKED",
        "traced-quiet": "COMPLETED",
    }
    until(lambda: engine.phases_of(wanted) == wanted, f"{wanted} in scrape.sagas")
    # Each process tells its own spans, in batches of its own: of each saga the coordinator's last and the workers' last.
    ends = (
        ("traced", "saga fetching"),
        ("traced", "second execute"),
        ("traced-undone", "saga default"),
        ("traced-undone", "first compensate"),
        ("traced-stuck", "saga parked"),
    )
    until(
        lambda: all(any(one.name == name for one in receiver.of(job)) for job, name in ends),
        "the last span of each saga from each process",
    )
    return engine


def test_a_request_is_followed_through_every_process(engine: Engine, receiver: Receiver) -> None:
    """intake, saga, each attempt and its HTTP call hang together, below the span that the request came with."""
    intake, saga = receiver.one("traced", "intake"), receiver.one("traced", "saga fetching")
    assert intake.trace_id == TRACE_ID and intake.parent_id == SPAN_ID
    assert saga.parent_id == intake.span_id and not saga.failed
    attempts = [one for one in receiver.of("traced") if one.name.endswith(" execute")]
    assert sorted(one.name for one in attempts) == ["fetch execute", "first execute", "first execute", "second execute"]
    assert {one.parent_id for one in attempts} == {saga.span_id}
    assert {one.roles for one in attempts} == {"intake,first,second,fetch"} and saga.roles == "coordinator"
    assert {one.service for one in receiver.of("traced")} == {"scrapesaga"}
    assert [one.failed for one in attempts if one.attributes["scrapesaga.attempt"] == 2] == [False]
    fetched, called = receiver.one("traced", "fetch execute"), receiver.one("traced", "GET")
    assert called.parent_id == fetched.span_id
    assert called.attributes["http.response.status_code"] == 200
    assert called.attributes["url.full"] == f"{receiver.url}/p"
    assert fetched.start_ns <= called.start_ns <= called.end_ns <= fetched.end_ns


def test_a_compensation_is_in_the_trace(engine: Engine, receiver: Receiver) -> None:
    """A request without a trace begins one; its saga's failure and its compensation are told."""
    intake, saga = receiver.one("traced-undone", "intake"), receiver.one("traced-undone", "saga default")
    undo = receiver.one("traced-undone", "first compensate")
    assert intake.parent_id == "" and saga.failed and undo.parent_id == saga.span_id and not undo.failed
    assert saga.attributes["scrapesaga.failed_step"] == "second"
    assert receiver.one("traced-undone", "second execute").failed


def test_a_parked_saga_shows_at_once(engine: Engine, receiver: Receiver) -> None:
    """The moment of parking is told, long before the saga can end."""
    assert receiver.one("traced-stuck", "saga parked").failed
    assert not [one for one in receiver.of("traced-stuck") if one.name == "saga default"]


def test_what_nobody_samples_is_only_carried_on(engine: Engine, receiver: Receiver) -> None:
    """A request that came unsampled has no spans, and its records carry its context with that flag."""
    assert not receiver.of("traced-quiet")
    topic = engine.catalogue.commands("second").name
    (found,) = [record for record in engine.reader.records(topic) if record.key == b"traced-quiet"]
    carried = dict(found.headers)["traceparent"] or b""
    assert carried.startswith(b"00-" + b"1" * 32)
    assert carried.endswith(b"-00")


def test_every_record_of_a_traced_saga_carries_its_context(engine: Engine, receiver: Receiver) -> None:
    """Commands carry the saga's context, results and pages that of the attempt which sent them."""
    saga = receiver.one("traced", "saga fetching")
    commands = engine.reader.records(engine.catalogue.commands("fetch").name)
    assert {dict(record.headers)["traceparent"] for record in commands} == {f"00-{TRACE_ID}-{saga.span_id}-01".encode()}
    attempt = receiver.one("traced", "fetch execute")
    expected = f"00-{TRACE_ID}-{attempt.span_id}-01".encode()
    for topic in (engine.catalogue.results("fetch").name, engine.catalogue.pages.name):
        assert {dict(record.headers)["traceparent"] for record in engine.reader.records(topic)} == {expected}


def test_no_secret_is_told(engine: Engine, receiver: Receiver) -> None:
    """The token in the header and in the query reached the page, and neither a span nor a log line."""
    assert any(SECRET in headers.get("Authorization", "") for headers in receiver.asked)
    assert not any("traceparent" in map(str.lower, headers) for headers in receiver.asked)
    assert SECRET not in repr(receiver.spans)
    for role in (engine.coordinator, engine.worker):
        assert SECRET not in json.dumps(role.lines())


def test_a_change_of_state_is_one_line_of_json(engine: Engine) -> None:
    """Each line is an object with a time, a level and a message; a saga's has its job, step, seq and trace."""
    lines = engine.coordinator.lines()
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    (done,) = [line for line in lines if line.get("job_id") == "traced"]
    state = engine.states()["traced"]
    assert (done["message"], done["seq"], done["trace_id"]) == ("saga completed", state["seq"], TRACE_ID)
    assert done["step"] == "second" and done["run"] == state["run"]
