"""One record never stops a process: any bytes, headers and times on any input are answered, and their neighbours go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.kafka.producer import Outgoing, RecordTooLarge
from processors.kafka.record import Batch, Headers, Part, Record
from processors.messages.dead_letters import source_of
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.messages.wire import decode_event, encode_command, encode_event
from processors.pipeline.plan_store import Plans
from processors.roles.coordinator import Coordinator
from processors.roles.intake import Intake
from processors.roles.step_worker import StepWorker
from processors.saga.commands import StepCommand
from processors.saga.events import Cancelled, Failed, Submitted, Succeeded
from processors.saga.moves import MAX_CARRIED_BYTES
from processors.saga.plan import Plan, RetryPolicy, StepPlan, encode_plan, pin
from processors.saga.reason import LONGEST_REASON, bounded_reason
from processors.saga.state import Action, Origin, Phase
from processors.step import NOTHING_TO_UNDO, Step, StepCall, StepOutput
from processors.testing import MemoryHost
from tests.fuzz.bytes import damaged
from tests.sagas import START_MS, running
from tests.unit.test_coordinator_gauges import MemoryTable
from topics.catalogue import Catalogue

CATALOGUE = Catalogue(steps=("obey",))
LIMITS = {topic.name: topic.max_record_bytes for topic in CATALOGUE}
RETRY = RetryPolicy(attempts=2, base_ms=0, cap_ms=0, total_ms=1_000)
OBEY = StepPlan("obey", f"{__name__}:Obey", "{}", False, False, 5_000, 60_000, RETRY, 5_000, RETRY)
PLAN = pin(Plan("obedient", "{}", (OBEY,), 0, 60_000))


class Obey(Step):
    """Does what its payload says, the worst included."""

    compensate = NOTHING_TO_UNDO

    async def run(self, call: StepCall) -> StepOutput:
        """Raise what is asked for, or return as much as is asked for."""
        match call.payload:
            case {"raise": str(text)}:
                raise ValueError(text)
            case {"return": int(size)}:
                return StepOutput(data={"text": "x" * size})
            case _:
                return StepOutput(data={})


class Kafka:
    """Takes what the topics of a broker take, and keeps it."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def send(self, items: Sequence[Outgoing]) -> list[int]:
        """Keep the records; as a broker does, refuse what is over a topic's limit."""
        for item in items:
            if item.size_bytes > LIMITS[item.topic]:
                raise RecordTooLarge(f"{item.size_bytes} bytes for {item.topic}")
        self.sent.extend(items)
        return [0] * len(items)


class Offsets:
    """The offsets that were acknowledged."""

    owned = True

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()

    def inherited(self, offset: int) -> bool:
        """Nothing is."""
        return False

    def done(self, offset: int) -> None:
        """Note one."""
        self.acknowledged.add(offset)

    def done_run(self, offsets: Sequence[int]) -> None:
        """Note all."""
        self.acknowledged.update(offsets)


def batch_of(records: Sequence[Record]) -> tuple[Batch, Offsets]:
    """A batch of one partition, and what of it was acknowledged."""
    offsets = Offsets()
    return Batch(records, [Part(0, offsets, range(len(records)))]), offsets


async def plans() -> Plans:
    """The plans topic with the one plan."""
    log = MemoryHost().log("plans")
    await log.append(b"plan:" + PLAN.hash.encode(), encode_plan(PLAN))
    book = Plans(log)
    await book.refresh()
    return book


SUBMITTED = Submitted("good", PLAN, "http://a.example/", b'{"n":1}', "c", Origin(0, 0))
COMMAND = StepCommand(
    "good", 1, 2, "obey", Action.EXECUTE, 1, "good:1:obey", PLAN.hash, "http://a.example/", b"", "", 0, {}, b"", ""
)
WHOLE = {
    "urls": st.sampled_from(
        [encode_request(ScrapeRequest("http://a.example/", None, "j", {"n": 1}, "l")), b'{"url": "http://a/"}']
    ),
    "events": st.sampled_from(
        [
            encode_event(SUBMITTED),
            encode_event(Cancelled("good", "ann", "why"), request_id="r"),
            encode_event(Succeeded("good", 1, "obey", 2, b"{}")),
        ]
    ),
    "obey.commands": st.just(encode_command(COMMAND)),
}
HEADER_NAMES = st.sampled_from(["traceparent", "seq", "job_id", "dead-letter-partition", "é", ""]) | st.text(max_size=8)
HEADERS = st.lists(st.tuples(HEADER_NAMES, st.none() | st.binary(max_size=40)), max_size=4).map(tuple)
TIMES = st.sampled_from([-1, 0, START_MS, 2**62]) | st.integers(-(2**63), 2**63 - 1)


def records(topic: str) -> st.SearchStrategy[Record]:
    """Any record of a topic: damaged or whole, with any key, headers and time."""
    values = st.none() | st.binary(max_size=200) | damaged(WHOLE[topic])
    keys = st.none() | st.just(b"good") | st.binary(max_size=20)
    name = CATALOGUE.topic(topic).name
    return st.builds(Record, st.just(name), st.just(0), st.just(0), TIMES, keys, values, HEADERS)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def through_intake(found: Sequence[Record]) -> tuple[Kafka, Offsets]:
    """Give intake one batch."""
    kafka = Kafka()
    batch, offsets = batch_of(found)
    await Intake(kafka, {"obedient": PLAN}, CATALOGUE).handle(batch)
    return kafka, offsets


async def through_coordinator(found: Sequence[Record]) -> tuple[Kafka, Offsets, MemoryTable]:
    """Give a coordinator one batch."""
    kafka, table = Kafka(), MemoryTable()
    coordinator = Coordinator(table, kafka, await plans(), CATALOGUE)
    coordinator.restored(0, [])
    batch, offsets = batch_of(found)
    await coordinator.handle(batch)
    return kafka, offsets, table


async def through_worker(found: Sequence[Record]) -> tuple[Kafka, Offsets]:
    """Give a worker one batch, and wait until it is acknowledged."""
    kafka = Kafka()
    batch, offsets = batch_of(found)

    async def batches() -> AsyncIterator[Batch]:
        yield batch
        async with asyncio.timeout(10):
            while len(offsets.acknowledged) < len(found):
                await asyncio.sleep(0)

    await StepWorker("obey", MemoryHost(), kafka, await plans(), CATALOGUE).serve(batches())
    return kafka, offsets


@FUZZ
@given(records("urls"))
def test_any_request_is_answered(record: Record) -> None:
    """Intake answers any record with one record, and acknowledges it."""
    kafka, offsets = asyncio.run(through_intake([record]))
    assert (len(kafka.sent), offsets.acknowledged) == (1, {0})


@FUZZ
@given(records("events"))
def test_any_event_is_answered_and_moves_no_other_job(record: Record) -> None:
    """The coordinator acknowledges any record, saves at most the job of its key, and goes on with the next job."""
    good = Record(record.topic, 0, 1, START_MS, b"other", encode_event(msgspec.structs.replace(SUBMITTED, job_id="other")), ())  # fmt: skip
    _, offsets, table = asyncio.run(through_coordinator([record, good]))
    assert offsets.acknowledged == {0, 1}
    assert {b"other"} <= table.states[0].keys() <= {b"other", record.key or b""}


@FUZZ
@given(records("obey.commands"))
def test_any_command_is_answered(record: Record) -> None:
    """A worker acknowledges any record, and answers what is a command of its step."""
    kafka, offsets = asyncio.run(through_worker([record]))
    assert kafka.sent
    assert offsets.acknowledged == {0}


# --- by kind ----------------------------------------------------------------------------------------------------------


def request(payload: str, headers: Headers = ()) -> Record:
    """A request in JSON with this payload."""
    value = b'{"url": "http://a.example/", "job_id": "j", "payload": %b}' % payload.encode()
    return Record(CATALOGUE.urls.name, 0, 0, START_MS, None, value, headers)


def test_a_null_header_beside_a_request_is_no_header() -> None:
    """A good request with a header of null is a job; a bad one is set aside with its headers as they were."""
    kafka, _ = asyncio.run(through_intake([request("{}", (("traceparent", None),))]))
    assert kafka.sent[0].topic == CATALOGUE.events.name
    bad = Record(CATALOGUE.urls.name, 0, 0, START_MS, None, b"\x00", (("mine", None),))
    kafka, _ = asyncio.run(through_intake([bad]))
    assert kafka.sent[0].topic == CATALOGUE.dead_letters.name
    assert kafka.sent[0].headers[0] == ("mine", None)


def test_a_request_that_grows_is_set_aside() -> None:
    """Numbers take more bytes when they are encoded again: what no longer fits is a dead letter with the reason."""
    numbers = "1e9," * 99_999 + "1e9"
    record = request(f'{{"n": [{numbers}]}}')
    assert len(record.value or b"") < LIMITS[CATALOGUE.urls.name]
    kafka, _ = asyncio.run(through_intake([record]))
    source = source_of(kafka.sent[0].headers)
    assert source is not None and "make its payload smaller" in source.reason


def test_a_record_that_no_topic_takes_is_named_by_its_hash() -> None:
    """A compressed batch may hold a record larger than the dead-letter topic takes: the letter says where it lies."""
    record = request('{"x": "%s"}' % ("x" * (LIMITS[CATALOGUE.dead_letters.name] + 1)))
    kafka, _ = asyncio.run(through_intake([record]))
    letter = kafka.sent[0]
    assert letter.value is None
    assert b"sha256" in (dict(letter.headers)["dead-letter-left-out"] or b"")


@pytest.mark.parametrize("text", ["x" * 3_000_000, "\ud800" * 5_000, "\x00"], ids=["long", "half pairs", "nul"])
def test_a_step_that_raises_megabytes_fails_with_a_bounded_reason(text: str) -> None:
    """Whatever a step raises, its job gets a reason that every topic takes, in characters that UTF-8 has."""
    payload = msgspec.json.encode({"raise": "boom"})
    command = msgspec.structs.replace(COMMAND, payload=payload)
    record = Record(CATALOGUE.commands("obey").name, 0, 0, START_MS, b"good", encode_command(command), ())

    async def raises(self: Obey, call: StepCall) -> StepOutput:
        raise ValueError(text)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Obey, "run", raises)
        # Its line would hold what no test report can carry.
        patched.setattr(logging.getLogger("processors.roles.step_worker"), "disabled", True)
        kafka, _ = asyncio.run(through_worker([record]))
    reply: Any = decode_event(kafka.sent[0].value, lambda _: PLAN)
    assert isinstance(reply, Failed)
    assert len(reply.reason) <= LONGEST_REASON
    assert "unexpected error" in reply.reason


def test_an_output_over_its_limit_fails_its_own_job() -> None:
    """An output that the next topic doesn't take is a failure of its job, not of its worker."""
    command = msgspec.structs.replace(COMMAND, payload=msgspec.json.encode({"return": 2_000_000}))
    record = Record(CATALOGUE.commands("obey").name, 0, 0, START_MS, b"good", encode_command(command), ())
    kafka, _ = asyncio.run(through_worker([record]))
    reply = decode_event(kafka.sent[0].value, lambda _: PLAN)
    assert isinstance(reply, Failed)
    assert "archive large data" in reply.reason


def test_a_foreign_reply_of_megabytes_parks_nothing_and_stops_nothing() -> None:
    """Outputs that together outgrow the state undo their own saga, step by step, whoever wrote them."""
    job = running(steps="abcdef")
    for name in "abcd":
        job.succeed(name, output=b"x" * 900_000)
    assert job.phase is Phase.COMPENSATING
    assert f"exceed {MAX_CARRIED_BYTES} bytes" in job.state.reason
    assert job.asked == ("COMPENSATE", "d")


def test_reasons_are_bounded_and_readable() -> None:
    """Short reasons stay as they are; long ones are cut and say so; what UTF-8 can't carry is spelt out."""
    assert bounded_reason("no such page: é") == "no such page: é"
    assert bounded_reason("\ud800") == "\\ud800"
    assert bounded_reason("x" * 9_999).endswith("(9999 characters in all)")
    assert len(bounded_reason("x" * 9_999)) <= LONGEST_REASON
