"""What is read from the end of the log backwards is what the whole log says, late writes of a dead owner among it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from processors.kafka.record import Record
from processors.messages.wire import decode_saga_fields, encode_saga
from processors.operations import latest_states
from processors.operations.latest_states import LatestStates, event_of
from processors.operations.queries import Cursor, JobFilter, Newest, job_state, list_in
from processors.saga.state import Phase
from processors.settings.settings import Settings
from tests.memory_kafka import MemoryReader, MemoryTopics
from tests.sagas import completed
from topics.catalogue import DEFAULT_STEPS

TOPIC = "scrape.sagas"
PARTITIONS = 2
SAGA = completed().state
PHASES = (Phase.RUNNING, Phase.PARKED, Phase.COMPLETED)
JOBS = 8
# A write is late by so many records at most, and so long; read back are at least as many.
LATE_RECORDS, LATE_MS, EVERY_MS = 5, 200, 20


@pytest.fixture(autouse=True)
def small_steps() -> Iterator[None]:
    """Read a few records at a time, so that where a read ends matters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latest_states, "_FIRST_CHUNK", 8)
        patch.setattr(latest_states, "_LAST_CHUNK", 16)
        patch.setattr(latest_states, "BEHIND", LATE_RECORDS + 1)
        patch.setattr(latest_states, "LATE_MS", LATE_MS)
        patch.setattr(latest_states, "SKEW_MS", 0)
        yield


def record(partition: int, offset: int, job: int, seq: int, event: int, phase: Phase, at: int) -> Record:
    key = f"job-{job}"
    saga = replace(SAGA, job_id=key, seq=seq, offset=event, phase=phase, updated_ms=at, label=f"label-{job % 3}")
    return Record(TOPIC, partition, offset, at, key.encode(), encode_saga(saga), ())


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Partitions whose owner decides event after event; now and then an earlier owner writes what it had in hand."""
    records: list[Record] = []
    for partition in range(PARTITIONS):
        written: list[Record] = []
        seqs: dict[int, int] = {}
        for event in range(draw(st.integers(0, 60))):
            job = draw(st.integers(0, JOBS - 1)) * PARTITIONS + partition
            at = event * EVERY_MS
            seq = seqs[job] = seqs.get(job, event) + 1
            offset = written[-1].offset + draw(st.sampled_from((1, 1, 1, 4))) if written else 3
            if draw(st.integers(0, 15)) == 0:
                headers = (("seq", b"%d" % seq),)
                written.append(Record(TOPIC, partition, offset, at, f"job-{job}".encode(), None, headers))
            else:
                written.append(record(partition, offset, job, seq, event, draw(st.sampled_from(PHASES)), at))
            if draw(st.integers(0, 9)) == 0:
                # States that a successor has written, or has gone beyond, again: up to a batch of them, in order.
                recent = [one for one in written if one.timestamp_ms > at - LATE_MS // 2][-LATE_RECORDS:]
                for late in recent[: draw(st.integers(1, LATE_RECORDS))]:
                    written.append(late._replace(offset=written[-1].offset + 1, timestamp_ms=at))
        records += written
    return records


@given(logs())
def test_a_job_is_as_the_whole_log_says(log: list[Record]) -> None:
    """Of every job, of a forgotten one and of one that there never was."""
    newest = Newest(log)
    for job in range(JOBS * PARTITIONS + 1):
        key = f"job-{job}"
        reader = _Sorted(log)
        assert job_state(reader, TOPIC, key) == newest.state(key)


@given(logs(), st.integers(1, 6), st.sampled_from([None, Phase.PARKED]), st.sampled_from([0, 400, 900]), st.booleans())
def test_a_page_is_the_latest_of_all(
    log: list[Record], limit: int, phase: Phase | None, since: int, second: bool
) -> None:
    """Whatever the filter and the size, also behind a cursor."""
    wanted = JobFilter(frozenset() if phase is None else frozenset({phase}), since_ms=since)
    expected = sorted((fields for fields in Newest(log).all() if wanted.matches(fields)), key=Cursor.of)
    after = Cursor.of(expected[0]) if second and expected else None
    expected = [fields for fields in expected if after is None or Cursor.of(fields) > after]
    session = MemoryTopics({TOPIC: PARTITIONS, "scrape.plans": 1}).session(Settings(partitions=PARTITIONS))
    session = type(session)(session.settings, _Sorted(log), session.producer)
    page = list_in(session, wanted, limit, after)
    assert [state.fields for state in page.jobs] == expected[:limit]
    assert (page.next is not None) is (len(expected) > limit)


class _Sorted(MemoryReader):
    """Places a job in the partition that its number says."""

    def __init__(self, log: list[Record]) -> None:
        super().__init__(MemoryTopics({TOPIC: PARTITIONS, "scrape.plans": 1}, log))

    def partition_of(self, topic: str, key: str) -> int:
        return int(key.removeprefix("job-")) % PARTITIONS


def test_the_end_of_a_long_log_is_enough_for_what_changed_last() -> None:
    """A job that has just changed, and a short list, cost a chunk or two of each partition, whatever lies before."""
    log = [record(0, n, n * PARTITIONS, n, n, Phase.RUNNING, n * EVERY_MS) for n in range(2_000)]
    reader = _Sorted(log)
    assert job_state(reader, TOPIC, f"job-{1_999 * PARTITIONS}") is not None
    assert len(reader._topics.read) <= 16
    reader._topics.read.clear()
    session = MemoryTopics({}).session(Settings(partitions=PARTITIONS))
    session = type(session)(session.settings, reader, session.producer)
    assert len(list_in(session, JobFilter(), 3, None).jobs) == 3
    assert len(reader._topics.read) <= 32


def test_a_partition_whose_events_fall_is_read_further_back() -> None:
    """A late write at the very end: its better record is looked for as far back as one may be late."""
    log = [record(0, n, n % 4, n, n, Phase.RUNNING, n * EVERY_MS) for n in range(100)]
    better = log[93]
    stale = record(0, 100, 1, 89, 89, Phase.PARKED, 100 * EVERY_MS)
    latest = LatestStates(_Sorted([*log[:94], *log[96:97], *log[98:], stale]), [(TOPIC, 0)])
    assert better.key == stale.key
    latest.read_more([(TOPIC, 0)])
    assert latest.known_ms((TOPIC, 0)) > stale.timestamp_ms, "too little is known to trust the last record"


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.text(max_size=40), st.integers(1, 2**31))
def test_the_event_of_a_state_is_read_without_decoding_it(seq: int, event: int, job: str, run: int) -> None:
    """By the order of the schema's first fields, whatever their sizes."""
    value = encode_saga(replace(SAGA, seq=seq, offset=event, job_id=job, run=run))
    assert event_of(value) == decode_saga_fields(value)["offset"] == event


def test_what_is_no_state_names_no_event() -> None:
    """Damaged bytes say nothing, and end nothing."""
    value = encode_saga(SAGA)
    assert [event_of(one) for one in (b"", b"noise", value[:12], value[:10])] == [-1] * 4


def test_the_topics_of_every_step_are_known() -> None:
    """A session finds the steps by the topics that are there."""
    counts = {f"scrape.{step}.commands": 1 for step in DEFAULT_STEPS}
    assert set(MemoryTopics(counts).session(Settings()).catalogue.steps) == set(DEFAULT_STEPS)
