"""What the core says is what the topics carry: every value comes back as it was, and what isn't ours is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.errors import BadRecord
from processors.messages.wire import (
    decode_command,
    decode_event,
    decode_result,
    decode_saga,
    encode_command,
    encode_event,
    encode_saga,
)
from processors.saga.commands import StepCommand
from processors.saga.events import (
    Cancelled,
    Compensated,
    CompensationFailed,
    Confirmed,
    ConfirmFailed,
    Event,
    Failed,
    Redriven,
    Resumed,
    ResumeMode,
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.plan import Plan
from processors.saga.state import Action, InFlight, Origin, Phase, Saga, StepState, StepStatus, Undo
from processors.saga_table.changelog import peek, seq_of
from schemas.codec import HEADER_BYTES
from tests.sagas import Driven, compensated, compensating, completed, confirming, parked, plan, running

PLAN = plan("abc")
LONG = st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, 2**62)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BYTES = st.binary(max_size=40)
NAMES = st.sampled_from(["a", "b", "c"])
WHERE = {"job_id": TEXT, "run": COUNT, "step": NAMES, "seq": COUNT}
WHY = {"reason": TEXT, "retry_after_ms": COUNT}
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        Submitted,
        job_id=TEXT,
        plan=st.just(PLAN),
        url=TEXT,
        payload=BYTES,
        content_hash=TEXT,
        origin=st.builds(Origin, st.integers(0, 10_000), COUNT),
        label=TEXT,
        trace=TEXT,
        address=TEXT,
    ),
    st.builds(Succeeded, **WHERE, output=BYTES),
    st.builds(Failed, **WHERE, **WHY, retryable=st.booleans(), outcome_unknown=st.booleans()),
    st.builds(Compensated, **WHERE),
    st.builds(CompensationFailed, **WHERE, **WHY, retryable=st.booleans()),
    st.builds(Confirmed, **WHERE),
    st.builds(ConfirmFailed, **WHERE, **WHY, retryable=st.booleans()),
    st.builds(TimedOut, job_id=TEXT, seq=COUNT),
    st.builds(Cancelled, job_id=TEXT, by=TEXT, reason=TEXT),
    st.builds(Resumed, job_id=TEXT, mode=st.sampled_from(ResumeMode), by=TEXT, reason=TEXT),
    st.builds(Redriven, job_id=TEXT, from_step=NAMES, plan=st.just(PLAN), by=TEXT, reason=TEXT),
)
COMMAND_FIELDS = {
    "job_id": TEXT,
    "run": COUNT,
    "seq": COUNT,
    "step": NAMES,
    "action": st.sampled_from(Action),
    "attempt": st.integers(0, 1_000),
    "key": TEXT,
    "plan_hash": TEXT,
    "url": TEXT,
    "payload": BYTES,
    "label": TEXT,
    "expires_ms": COUNT,
    "inputs": st.dictionaries(NAMES, BYTES),
    "output": BYTES,
    "trace": TEXT,
    "address": TEXT,
}
COMMANDS = st.builds(StepCommand, **COMMAND_FIELDS)
FLIGHTS = st.builds(InFlight, st.sampled_from(Action), st.integers(0, 1_000), COUNT, COUNT, COUNT)
STEP_FIELDS = {
    "status": st.sampled_from(StepStatus),
    "attempts": st.integers(0, 1_000),
    "outcome_unknown": st.booleans(),
    "undo": st.sampled_from(Undo),
    "evidence": COUNT,
    "unanswered": st.lists(COUNT, max_size=3).map(tuple),
    "output": BYTES,
    "reason": TEXT,
    "in_flight": st.none() | FLIGHTS,
}
STEPS = st.builds(StepState, **STEP_FIELDS)
SAGA_FIELDS = {
    "seq": COUNT,
    "due_ms": COUNT,
    "phase": st.sampled_from(Phase),
    "job_id": TEXT,
    "run": COUNT,
    "offset": LONG,
    "plan": st.just(PLAN),
    "url": TEXT,
    "payload": BYTES,
    "label": TEXT,
    "content_hash": TEXT,
    "origins": st.lists(st.builds(Origin, st.integers(0, 10_000), COUNT), max_size=3).map(tuple),
    "steps": st.lists(STEPS, min_size=3, max_size=3).map(tuple),
    "started_ms": COUNT,
    "updated_ms": COUNT,
    "deadline_ms": COUNT,
    "reason": TEXT,
    "failed_step": TEXT,
    "previous": st.sampled_from([Phase.NEW, Phase.COMPLETED, Phase.COMPENSATED]),
    "withdraws": st.booleans(),
    "operator_actions": st.lists(TEXT, max_size=3).map(tuple),
    "trace": TEXT,
    "address": TEXT,
}
SAGAS = st.builds(Saga, **SAGA_FIELDS)


def plans(plan_hash: str) -> Plan:
    """Find a plan as the topic of plans would."""
    if plan_hash != PLAN.hash:
        raise BadRecord(f"no plan {plan_hash}")
    return PLAN


@given(EVENTS)
def test_events_come_back(event: Event) -> None:
    """Every event is read as it was written."""
    assert decode_event(encode_event(event), plans) == event


@given(COMMANDS)
def test_commands_come_back(command: StepCommand) -> None:
    """Every command is read as it was written."""
    assert decode_command(encode_command(command)) == command


@given(SAGAS)
@settings(max_examples=200)
def test_states_come_back(saga: Saga) -> None:
    """Every state is read as it was written, and the same state has the same bytes."""
    data = encode_saga(saga)
    assert decode_saga(data, plans) == saga
    assert encode_saga(decode_saga(data, plans)) == data


@pytest.mark.parametrize(
    ("value", "drawn"), [(Saga, SAGA_FIELDS), (StepState, STEP_FIELDS), (StepCommand, COMMAND_FIELDS)]
)
def test_no_field_is_left_out_above(value: type[msgspec.Struct], drawn: dict[str, object]) -> None:
    """A field that is added is drawn too: with its default alone its way over the wire would not be tested."""
    assert set(drawn) == set(value.__struct_fields__)


@given(SAGAS)
def test_the_first_fields_are_read_alone(saga: Saga) -> None:
    """seq, due_ms, phase and started_ms are found in the first bytes, as restoring needs them."""
    data = encode_saga(saga)
    assert seq_of(data) == saga.seq
    assert peek(data) == (saga.seq, saga.due_ms, list(Phase).index(saga.phase), saga.started_ms)


@pytest.mark.parametrize("given_job", [running, compensating, parked, completed, compensated, confirming])
def test_real_sagas_come_back(given_job: object) -> None:
    """A saga goes on from its bytes as it would have from memory: same decisions, same bytes."""
    job: Driven = given_job()  # type: ignore[operator]
    known = {job.plan.hash: job.plan}
    for decision in job.decisions:
        if decision.saga is not None:
            assert decode_saga(encode_saga(decision.saga), known.__getitem__) == decision.saga
    offset, event, now = job.inbox[-1]
    assert decode_event(encode_event(event), known.__getitem__) == event
    assert (offset, now) == (job.offset, job.now)


def test_what_only_the_wire_carries() -> None:
    """How long a step took is told to people, and is no part of the event."""
    event = Succeeded("j", 1, "a", 2, b"{}")
    data = encode_event(event, took_us=1_234, attempt=2, label="batch")
    assert decode_event(data, plans) == event
    assert {**decode_result(data), "output": b""} == {
        **decode_result(encode_event(event)), "output": b"", "took_us": 1_234, "attempt": 2, "label": "batch"
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"x",
        b"\xc3",
        b"\xc3\x01",
        b"\xc3\x01" + b"\0" * 8,
        b"{}",
        b"\0\0\0\0\1x",
        encode_saga(running().state),
    ],
    ids=[
        "tombstone",
        "empty",
        "text",
        "marker-half",
        "marker",
        "unknown-schema",
        "json",
        "confluent",
        "another-message",
    ],
)
def test_what_is_no_event_is_refused(data: bytes | None) -> None:
    """Whatever lies in the inbox is understood or refused with a reason; nothing else comes out."""
    with pytest.raises(BadRecord, match=r".+"):
        decode_event(data, plans)
    with pytest.raises(BadRecord, match=r".+"):
        decode_command(data)


@given(EVENTS, st.data())
@settings(max_examples=200)
def test_a_truncated_event_is_refused(event: Event, data: st.DataObject) -> None:
    """Half a record is refused, wherever it was cut."""
    whole = encode_event(event)
    with pytest.raises(BadRecord):
        decode_event(whole[: data.draw(st.integers(0, len(whole) - 1))], plans)


@given(st.binary(max_size=60), EVENTS)
@settings(max_examples=300)
def test_damaged_bytes_raise_nothing_else(noise: bytes, event: Event) -> None:
    """Noise behind a valid header decodes to something or is refused."""
    try:
        decode_event(encode_event(event)[:HEADER_BYTES] + noise, plans)
    except BadRecord:
        pass


def test_an_event_of_an_unknown_plan_is_refused() -> None:
    """A submission that names a plan that nobody has is refused by whoever knows the plans."""
    other = plan("xy")
    submitted = Submitted("j", other, "http://x/", b"", "c", Origin(0, 1))
    with pytest.raises(BadRecord, match=other.hash):
        decode_event(encode_event(submitted), plans)
