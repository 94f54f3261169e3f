"""The auditor: an honest log breaks no promise, in whatever order it is read; a wrong record breaks exactly its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from processors.auditor.auditor import Auditor
from processors.auditor.scope import Scope
from processors.auditor.throttled_log import ThrottledLog
from processors.auditor.violations import Invariant, label_of
from processors.kafka.record import Record
from processors.messages.wire import (
    decode_command,
    decode_saga,
    decode_saga_fields,
    encode_command,
    encode_event,
    encode_saga,
)
from processors.pipeline.plan_store import UnknownPlan
from processors.saga.events import Submitted
from processors.saga.invariants import LogPosition, Violation
from processors.saga.state import ENDED, Origin, Phase
from processors.spend.book import SpendEntry, SpendState
from schemas.codec import Codec, _names, codec, schema_of
from tests.honest import CATALOGUE, PARTITIONS, Engine

EVENTS, SAGAS = CATALOGUE.events.name, CATALOGUE.sagas.name
FROM_THE_START: Mapping[int, int] = {partition: 0 for partition in range(PARTITIONS)}


def audit(engine: Engine, order: int = 0, starts: Mapping[int, int] = FROM_THE_START, **seeds: object) -> Auditor:
    """Read all topics in some order, each partition in its own, and judge."""
    auditor = Auditor(Scope(CATALOGUE, starts), engine.plans)
    chance = random.Random(order)
    queues: dict[tuple[str, int], list[Record]] = {}
    for topic, records in engine.topics.items():
        for record in records:
            if topic != EVENTS or record.offset >= starts[record.partition]:
                queues.setdefault((topic, record.partition), []).append(record)
    for queue in queues.values():
        queue.reverse()
    while queues:
        place = chance.choice(sorted(queues))
        for _ in range(chance.randint(1, 30)):
            if queues[place]:
                read(auditor, queues[place].pop())
        if not queues[place]:
            del queues[place]
        auditor.settle(engine.now)
    for topic, partition in {*auditor.waits_for(), *((EVENTS, partition) for partition in starts)}:
        auditor.watermark.at_end(topic, partition, auditor.watermark.records_read)
    auditor.settle(engine.now)
    return auditor


def read(auditor: Auditor, record: Record) -> None:
    if record.topic != EVENTS:
        auditor.other(record)
        return
    try:
        auditor.event(record)
    except UnknownPlan:
        auditor.unreadable(record)


@pytest.mark.parametrize("seed", range(12))
def test_an_honest_log_breaks_no_promise(seed: int) -> None:
    """Failures, timers, cancels, redrives, poison and forgotten sagas: nothing to report, in any order of reading."""
    engine = Engine(seed, failures=(0.0, 0.2, 0.5)[seed % 3])
    engine.run(jobs=30)
    auditor = audit(engine, order=seed)
    assert auditor.examples == []
    assert auditor.events == len(engine.topics[EVENTS])
    assert (auditor.unjudged, auditor.ahead, auditor.behind) == (0, 0, 0)


def test_exact_repeats_break_no_promise() -> None:
    """What a crash, or an owner that was declared dead, writes once more is the same record again."""
    engine = Engine(3)
    engine.run(jobs=10)
    for topic in (SAGAS, "scrape.fetch.commands"):
        for record in list(engine.topics[topic])[::3]:
            engine.append(topic, record.key or b"", record.value, record.headers, partition=record.partition)
    assert audit(engine).examples == []


def test_the_sums_agree_with_the_states() -> None:
    """The conservation report is the count of the sagas by phase; the forgotten ones are counted, too."""
    engine = Engine(5)
    engine.run(jobs=40)
    sums = audit(engine).conservation()
    phases = [saga.phase for saga in engine.sagas.values()]
    for phase in (Phase.COMPLETED, Phase.COMPENSATED, Phase.PARKED):
        assert sums[phase.value.lower()] == phases.count(phase)
    assert sums["forgotten"] + len(phases) == 40
    assert sums["waiting"] == 0


# --- planted wrongs -----------------------------------------------------------------------------------------------------


def change(engine: Engine, topic: str, which: int, value: bytes | None) -> None:
    engine.topics[topic][which] = engine.topics[topic][which]._replace(value=value)


def forge_state(engine: Engine) -> None:
    saga = decode_saga(engine.topics[SAGAS][4].value or b"", engine.plans)
    engine.append(SAGAS, saga.job_id.encode(), encode_saga(replace(saga, reason="forged")))


def forge_end(engine: Engine) -> None:
    saga = next(saga for saga in engine.sagas.values() if saga.phase is Phase.COMPENSATED)
    engine.append(SAGAS, saga.job_id.encode(), encode_saga(replace(saga, seq=saga.seq + 1, phase=Phase.COMPLETED)))


def invent_job(engine: Engine) -> None:
    saga = decode_saga(engine.topics[SAGAS][0].value or b"", engine.plans)
    engine.append(SAGAS, b"nobody", encode_saga(replace(saga, job_id="nobody")))


def lose_state(engine: Engine) -> None:
    ends = [place for place, one in enumerate(engine.topics[SAGAS]) if one.value is not None]
    del engine.topics[SAGAS][ends[len(ends) // 3]]


def lose_command(engine: Engine) -> None:
    del engine.topics["scrape.notify.commands"][2]


def forge_command(engine: Engine) -> None:
    command = decode_command(engine.topics["scrape.fetch.commands"][3].value)
    engine.append(
        "scrape.fetch.commands", command.job_id.encode(), encode_command(replace(command, url="http://evil/"))
    )


def move_command(engine: Engine) -> None:
    record = engine.topics["scrape.fetch.commands"][3]
    engine.append("scrape.fetch.commands", record.key or b"", record.value, partition=1 - record.partition)


def forget_early(engine: Engine) -> None:
    saga = next(saga for saga in engine.sagas.values() if saga.phase in ENDED)
    engine.append(SAGAS, saga.job_id.encode(), None, [("seq", str(saga.seq).encode())])


def scribble(engine: Engine) -> None:
    engine.append(SAGAS, b"job-1", b"scribble")


def lose_tombstone(engine: Engine) -> None:
    records = engine.topics["scrape.records"]
    gone = {saga.job_id.encode() for saga in engine.sagas.values() if saga.phase is Phase.COMPENSATED}
    published = {one.key for one in records if one.value is not None}
    job = sorted(gone & published)[0]
    engine.topics["scrape.records"] = [one for one in records if one.key != job or one.value is not None]


def lose_record(engine: Engine) -> None:
    job = next(saga.job_id for saga in engine.sagas.values() if saga.phase is Phase.COMPLETED)
    engine.topics["scrape.records"] = [one for one in engine.topics["scrape.records"] if one.key != job.encode()]


def hide_letter(engine: Engine) -> None:
    del engine.topics["scrape.dead-letters"][0]


def lose_request(engine: Engine) -> None:
    request = engine.append("scrape.urls", b"", b"http://lost/", partition=0)
    for minute in range(3):
        engine.now += 60_000
        engine.submit(f"later-{minute}")
    assert request.offset < engine.topics["scrape.urls"][-1].offset


def stop_the_clock(engine: Engine) -> None:
    engine.submit("stuck")
    engine.now += 3_600_000


WRONGS: list[tuple[Callable[[Engine], None], Invariant]] = [
    (forge_state, Invariant.FOLD),
    (forge_end, Invariant.FOLD),
    (invent_job, Invariant.FOLD),
    (lose_state, Invariant.NO_GAPS),
    (lose_command, Invariant.SENT),
    (forge_command, Invariant.COMMAND),
    (move_command, Invariant.COMMAND),
    (forget_early, Invariant.FORGOTTEN),
    (scribble, Invariant.READABLE),
    (lose_tombstone, Invariant.RECORD_GONE),
    (lose_record, Invariant.RECORD_THERE),
    (hide_letter, Invariant.VISIBLE),
    (lose_request, Invariant.NOTHING_LOST),
    (stop_the_clock, Invariant.GOES_ON),
]


@pytest.mark.parametrize(("plant", "promise"), WRONGS, ids=lambda one: getattr(one, "__name__", ""))
@pytest.mark.parametrize("order", range(3))
def test_a_wrong_record_breaks_its_promise_alone(
    plant: Callable[[Engine], None], promise: Invariant, order: int
) -> None:
    """Each planted wrong is reported once, as what it is, with the place that shows it."""
    engine = Engine(7, failures=0.3)
    engine.run(jobs=30)
    plant(engine)
    auditor = audit(engine, order)
    assert dict(auditor.violations) == {promise: 1}, auditor.examples
    assert [one.position.topic.startswith("scrape.") for one in auditor.examples if one.position] == [True]


# --- money --------------------------------------------------------------------------------------------------------------


def paid(engine: Engine, state: SpendState, version: int, **changes: object) -> None:
    entry = SpendEntry(
        key="job-1:1:enrich",
        version=version,
        pipeline="shop",
        step="enrich",
        content_hash="c",
        cost=Decimal(2),
        cap=Decimal(3),
        state=state,
        seq=5,
        written_by="job-1:1:enrich",
        at="2026-01-01T00:00:00.000+00:00",
        known=state is SpendState.PAID,
        response=b"{}" if state is SpendState.PAID else None,
    )
    for name, value in changes.items():
        object.__setattr__(entry, name, value)
    engine.append("scrape.spend", entry.key.encode(), entry.encode(), partition=0)


def pay_once(engine: Engine) -> None:
    paid(engine, SpendState.RESERVED, 1)
    paid(engine, SpendState.PAID, 2)
    paid(engine, SpendState.PAID, 3)


def pay_twice(engine: Engine) -> None:
    pay_once(engine)
    paid(engine, SpendState.PAID, 4, response=b'{"charge": 2}')


def pay_a_cancelled_call(engine: Engine) -> None:
    paid(engine, SpendState.CANCELLED, 1)
    paid(engine, SpendState.PAID, 2)


def pay_and_use(engine: Engine) -> None:
    other = "job-2:1:enrich"
    paid(engine, SpendState.USED, 1, key=other, claimed_by="job-1:1:enrich", claim_seq=5, known=True)
    paid(engine, SpendState.PAID, 1, cap=None)


def pay_beyond_the_cap(engine: Engine) -> None:
    pay_once(engine)
    other = "job-2:1:enrich"
    paid(engine, SpendState.RESERVED, 1, key=other, written_by=other)
    paid(engine, SpendState.PAID, 2, key=other, written_by=other)


def give_the_cap_back(engine: Engine) -> None:
    pay_once(engine)
    engine.append("scrape.spend", b"job-1:1:enrich", None, partition=0)
    other = "job-2:1:enrich"
    paid(engine, SpendState.RESERVED, 1, key=other, written_by=other)
    paid(engine, SpendState.PAID, 2, key=other, written_by=other)


def lose_a_race(engine: Engine) -> None:
    pay_once(engine)
    paid(engine, SpendState.PAID, 2, response=b"slower")


def change_the_content(engine: Engine) -> None:
    paid(engine, SpendState.RESERVED, 1)
    paid(engine, SpendState.PAID, 2, content_hash="other")


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        (pay_once, None),
        (give_the_cap_back, None),
        (lose_a_race, None),
        (pay_twice, Invariant.PAID_ONCE),
        (pay_a_cancelled_call, Invariant.PAID_ONCE),
        (pay_and_use, Invariant.PAID_ONCE),
        (pay_beyond_the_cap, Invariant.WITHIN_CAP),
        (change_the_content, Invariant.ONE_PAYLOAD),
    ],
)
def test_the_ledger_is_audited(plant: Callable[[Engine], None], promise: Invariant | None) -> None:
    """A second payment, one beyond the cap, or one for another content is reported; the same answer again isn't."""
    engine = Engine(1, failures=0.0)
    engine.run(jobs=2)
    plant(engine)
    assert dict(audit(engine).violations) == ({} if promise is None else {promise: 1})


# --- upgrades -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def older_states() -> Iterator[Codec]:
    """A schema of an earlier version, which had no traces yet."""
    schema = schema_of("saga_state")
    older = Codec("saga_state", {**schema, "fields": [one for one in schema["fields"] if one["name"] != "trace"]})
    present = codec("saga_state")
    present.add_reader(older)
    _names.cache_clear()
    yield older
    del present._readers[older.fingerprint]
    _names.cache_clear()


def test_what_an_earlier_version_wrote_is_judged_by_what_it_says(older_states: Codec) -> None:
    """While coordinators are replaced one by one, states come in two encodings: they say the same, or they don't."""
    engine = Engine(3, failures=0.2)
    engine.run(jobs=10)
    states = [one for one in engine.topics[SAGAS] if one.value is not None]
    for record in states[::2]:
        fields = decode_saga_fields(record.value or b"")
        place = engine.topics[SAGAS].index(record)
        change(engine, SAGAS, place, older_states.encode(fields))
    assert audit(engine).examples == []
    record = states[0]
    fields = {**decode_saga_fields(record.value or b""), "label": "forged"}
    engine.append(SAGAS, record.key or b"", older_states.encode(fields))
    assert dict(audit(engine).violations) == {Invariant.FOLD: 1}


# --- beginnings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(6))
def test_an_audit_may_begin_in_mid_story(order: int) -> None:
    """Jobs whose beginning was not read are judged from the first state that is seen of them; nothing is made up."""
    engine = Engine(order, failures=0.3)
    engine.run(jobs=20)
    starts = {p: sum(one.partition == p for one in engine.topics[EVENTS]) // 2 for p in range(PARTITIONS)}
    auditor = audit(engine, order, starts)
    assert auditor.examples == []
    assert auditor.unjudged > 0
    assert auditor.events == sum(one.offset >= starts[one.partition] for one in engine.topics[EVENTS])


def test_a_job_that_was_taken_over_is_judged_from_there() -> None:
    """In mid-story too, a forged state of a job whose state was seen is a forgery."""
    engine = Engine(2, failures=0.0)
    engine.submit("early")
    starts = {p: sum(one.partition == p for one in engine.topics[EVENTS]) for p in range(PARTITIONS)}
    engine.run(jobs=10)
    forge_state(engine)
    job = engine.topics[SAGAS][-1].key
    assert job is not None
    assert dict(audit(engine, 0, starts).violations) == {Invariant.FOLD: 1}


def test_ended_sagas_leave_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ended sagas only so many are kept; a late event of a former one is judged from the state that is seen next."""
    monkeypatch.setattr("processors.auditor.jobs.ENDED_KEPT", 3)
    engine = Engine(4, failures=0.3)
    engine.run(jobs=60)
    auditor = audit(engine)
    assert auditor.examples == []
    assert auditor.unjudged > 0
    assert sum(auditor.conservation()[name] for name in ("completed", "compensated", "parked", "forgotten")) >= 60 - 3


def test_the_clock_of_one_broker_may_be_behind() -> None:
    """A state that bears an earlier time than its event is not judged before the events were read to their end."""
    engine = Engine(1, failures=0.0)
    engine.run(jobs=5)
    engine.topics[SAGAS] = [one._replace(timestamp_ms=one.timestamp_ms - 1_000) for one in engine.topics[SAGAS]]
    assert audit(engine, 3).examples == []


def test_an_unknown_plan_is_asked_for() -> None:
    """An event that names a plan that wasn't read yet is taken only once it was, or found not to exist."""
    engine = Engine(1)
    engine.submit("job-1")
    known: list[str] = []

    def plans(plan_hash: str) -> object:
        if plan_hash not in known:
            raise UnknownPlan(plan_hash)
        return engine.plan

    auditor = Auditor(Scope(CATALOGUE, FROM_THE_START), plans)  # type: ignore[arg-type]  # a PlanBook in mid-reading
    event = engine.topics[EVENTS][0]
    with pytest.raises(UnknownPlan):
        auditor.event(event)
    known.append(engine.plan.hash)
    auditor.event(event)
    assert auditor.conservation()["running"] == 1


def test_a_broken_build_fills_no_disk(caplog: pytest.LogCaptureFixture) -> None:
    """Of each promise some lines a minute are logged; the next minute says how many were not."""
    throttled = ThrottledLog()
    for second in range(100):
        throttled.write(Violation(Invariant.FOLD, f"j{second}", "how", LogPosition("t", 0, second)), second / 10)
    throttled.write(Violation(Invariant.SENT, "j", "how", LogPosition("t", 0, 1)), 10.0)
    throttled.write(Violation(Invariant.FOLD, "j", "how", LogPosition("t", 0, 1)), 61.0)
    lines = [record for record in caplog.records if record.name.endswith("throttled_log")]
    assert len(lines) == 20 + 2
    assert lines[0].__dict__["offset"] == 0
    assert lines[-1].__dict__["left_out"] == 80


def test_labels_of_promises_are_plain() -> None:
    """A promise is a value of a metric's label: short, and of a closed set."""
    assert label_of(Invariant.PAID_ONCE) == "paid-at-most-once-per-key"
    assert len({label_of(one) for one in Invariant}) == len(Invariant)


def test_late_requests_are_not_lost() -> None:
    """While intake has not gone on for a minute past a request, its answer may still come."""
    engine = Engine(1)
    late = engine.append("scrape.urls", b"", b"http://late/", partition=0)
    for number in range(5):
        engine.submit(f"job-{number}")
    event = Submitted("late", engine.plan, "http://late/", b"", "c", Origin(0, late.offset))
    engine.now += timedelta(minutes=10) // timedelta(milliseconds=1)
    engine.coordinate(engine.append(EVENTS, b"late", encode_event(event)))
    auditor = audit(engine)
    assert Invariant.NOTHING_LOST not in auditor.violations
    assert auditor.conservation()["waiting"] == 0
