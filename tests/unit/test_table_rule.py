"""The rule by which the log of saga states becomes a table, and by which somebody else's records are judged."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from processors.errors import BadRecord
from processors.saga_table.changelog import GRAVES_KEPT, ChangelogEntry, ChangelogMemory, fold, peek, seq_in, seq_of
from processors.saga_table.changelog_reader import LogRecord
from processors.saga_table.fencing import Gap, OffsetAccount, WriterVerdict, gaps_between, judge, keys_to_publish_again


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def state(seq: int, due_ms: int = 0, phase: int = 1, started_ms: int = 0, rest: bytes = b"rest") -> bytes:
    return b"\xc3\x01fingerpr" + varint(seq) + varint(due_ms) + varint(phase) + varint(started_ms) + rest


longs = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(longs, longs, st.integers(0, 200), longs)
def test_peek_reads_the_first_four_fields(seq: int, due_ms: int, phase: int, started_ms: int) -> None:
    """peek() gives back what Avro wrote, and seq_of() its first field."""
    assert peek(state(seq, due_ms, phase, started_ms)) == (seq, due_ms, phase, started_ms)
    assert seq_of(state(seq, due_ms, phase)) == seq


def test_peek_agrees_with_the_codec() -> None:
    """peek() reads the bytes that the codec of SagaState writes."""
    out = BytesIO()
    fields = [{"name": "seq", "type": "long"}, {"name": "due_ms", "type": "long"}]
    phase = {"name": "phase", "type": {"type": "enum", "name": "P", "symbols": ["A", "B", "C"]}}
    rest = [{"name": "started_ms", "type": "long"}, {"name": "job_id", "type": "string"}]
    schema = {"type": "record", "name": "S", "fields": [*fields, phase, *rest]}
    value = {"seq": 300, "due_ms": 1_790_000_000_000, "phase": "C", "started_ms": 1_780_000_000_000, "job_id": "x"}
    schemaless_writer(out, schema, value)
    assert peek(b"\xc3\x01fingerpr" + out.getvalue()) == (300, 1_790_000_000_000, 2, 1_780_000_000_000)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"\xc3\x01finger", b"\xc3\x01fingerpr", b"\xc3\x01fingerpr\x80", b"\x00\x00"]
)
def test_what_is_no_state_is_named(value: bytes) -> None:
    """peek() refuses bytes that are no state; they lose against any state."""
    with pytest.raises(BadRecord, match="Not a saga state"):
        peek(value)
    assert seq_of(value) == -1


@pytest.mark.parametrize(("headers", "seq"), [(None, -1), ([], -1), ([("seq", b"x")], -1), ([("seq", b"12")], 12)])
def test_a_tombstone_says_its_seq(headers: list[tuple[str, str | bytes | None]] | None, seq: int) -> None:
    """A tombstone's seq is in its header; without one it deletes nothing."""
    assert seq_in(headers) == seq


# A life of a saga: how many states it has, and whether it is forgotten in the end.
lives = st.lists(st.tuples(st.integers(1, 4), st.just(True)), max_size=2).flatmap(
    lambda ended: st.tuples(st.integers(0, 4), st.booleans()).map(lambda last: [*ended, last] if last[0] else ended)
)


@st.composite
def owners_logs(draw: st.DrawFn) -> list[ChangelogEntry]:
    """What the owner writes: the lives of some sagas, each in order, interleaved."""
    histories = []
    for number in range(draw(st.integers(1, 3))):
        key, seq = b"job-%d" % number, 0
        history: list[ChangelogEntry] = []
        for states, forgotten in draw(lives):
            for _ in range(states):
                seq += 1
                history.append((key, state(seq), -1))
            if forgotten:
                history.append((key, None, seq))
        histories.append(history)
    order = draw(st.permutations([n for n, history in enumerate(histories) for _ in history]))
    return [histories[n].pop(0) for n in order]


@st.composite
def logs_with_zombies(draw: st.DrawFn) -> tuple[list[ChangelogEntry], list[ChangelogEntry]]:
    """The owner's records, and the same with what zombies wrote in between: parts of it again, in order or not."""
    own = draw(owners_logs())
    log = list(own)
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(0, len(own)))
        part = own[first : draw(st.integers(first, len(own)))]
        at = 0
        for change in part:
            at = draw(st.integers(at, len(log)))
            log.insert(at, change)
            at += 1
    return own, log


def last_states(own: Sequence[ChangelogEntry]) -> dict[bytes, bytes]:
    """What the owner's table holds: plainly the last record of each key."""
    return {key: value for key, value in {key: value for key, value, _ in own}.items() if value is not None}


def restore(log: Sequence[ChangelogEntry]) -> tuple[dict[bytes, bytes], ChangelogMemory]:
    states: dict[bytes, bytes] = {}
    memory = ChangelogMemory()
    fold(states, memory, log)
    return states, memory


@given(logs_with_zombies())
def test_a_zombie_changes_nothing_that_is_restored(logs: tuple[list[ChangelogEntry], list[ChangelogEntry]]) -> None:
    """However a zombie's repeats lie between the owner's records, the owner's last states are restored."""
    own, log = logs
    assert restore(log)[0] == last_states(own)


@given(logs_with_zombies())
def test_a_repaired_log_survives_compaction(logs: tuple[list[ChangelogEntry], list[ChangelogEntry]]) -> None:
    """Once stale keys are published again, the last record of each key restores the owner's last states."""
    own, log = logs
    states, memory = restore(log)
    repairs: list[ChangelogEntry] = [
        (key, states[key], -1) if key in states else (key, None, memory.graves[key]) for key in memory.stale
    ]
    compacted = list({change[0]: change for change in [*log, *repairs]}.values())
    assert restore(compacted)[0] == last_states(own)


@given(logs_with_zombies(), st.data())
def test_a_log_may_be_read_in_pieces(
    logs: tuple[list[ChangelogEntry], list[ChangelogEntry]], data: st.DataObject
) -> None:
    """Reading on, even a part twice, gives the same as reading at once."""
    _, log = logs
    cut = data.draw(st.integers(0, len(log)))
    again = data.draw(st.integers(0, cut))
    states, memory = restore(log[:cut])
    fold(states, memory, log[again:])
    once, remembered = restore(log)
    assert (states, memory.stale, dict(memory.graves)) == (once, remembered.stale, dict(remembered.graves))


def test_a_tombstone_without_a_seq_deletes_nothing() -> None:
    """A tombstone that somebody wrote by hand is stale: the state is published again."""
    states, memory = restore([(b"a", state(3), -1), (b"a", None, -1)])
    assert states == {b"a": state(3)}
    assert memory.stale == {b"a"}


def test_garbage_in_the_log_loses() -> None:
    """Bytes that are no state change nothing, and are overwritten where a state is known."""
    states, memory = restore([(b"a", state(3), -1), (b"a", b"garbage", -1), (b"b", b"garbage", -1)])
    assert states == {b"a": state(3)}
    assert memory.stale == {b"a"}


def test_graves_are_bounded() -> None:
    """Of forgotten sagas only the latest are remembered."""
    _, memory = restore([(b"%d" % n, None, n) for n in range(GRAVES_KEPT + 5)])
    memory.trim()
    assert len(memory.graves) == GRAVES_KEPT
    assert next(iter(memory.graves)) == b"5"


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(-1, 50))
def test_gaps_are_exactly_what_was_not_written(steps: list[int], known: int) -> None:
    """Own offsets and gaps together are every offset after the last known one, once."""
    own, at = [], known
    for step in steps:
        at += step
        own.append(at)
    last, gaps = gaps_between(known, own)
    assert last == at
    covered = sorted([*own, *(offset for gap in gaps for offset in range(gap.first, gap.last + 1))])
    assert covered == list(range(known + 1, at + 1))


def test_what_is_open_bounds_what_is_known() -> None:
    """A restart reads gaps and suspects again."""
    account = OffsetAccount(last=9)
    account.wrote([10, 11, 15])
    assert (account.last, account.gaps, account.known) == (15, [Gap(12, 14)], 11)
    account.ends_at(20)
    assert account.gaps == [Gap(12, 14), Gap(16, 19)]
    account.gaps.clear()
    assert account.known == 19
    account.suspects.append((LogRecord(5, b"a", None), 0.0))
    assert account.known == 4


def theirs(value: bytes | None, seq: int = -1) -> LogRecord:
    return LogRecord(7, b"a", value, seq)


@pytest.mark.parametrize(
    ("record", "ours", "grave", "verdict"),
    [
        (theirs(state(2)), state(3), None, WriterVerdict.STALE),
        (theirs(state(3)), state(3), None, WriterVerdict.HARMLESS),
        (theirs(state(4)), state(3), None, WriterVerdict.AHEAD),
        (theirs(state(3)), None, 3, WriterVerdict.STALE),
        (theirs(state(4)), None, 3, WriterVerdict.AHEAD),
        (theirs(state(1)), None, None, WriterVerdict.AHEAD),
        (theirs(b"garbage"), None, None, WriterVerdict.HARMLESS),
        (theirs(b"garbage"), state(3), None, WriterVerdict.STALE),
        (theirs(None, 2), state(3), None, WriterVerdict.STALE),
        (theirs(None), state(3), None, WriterVerdict.STALE),
        (theirs(None, 3), state(3), None, WriterVerdict.AHEAD),
        (theirs(None, 3), None, 3, WriterVerdict.HARMLESS),
        (theirs(None, 2), None, 3, WriterVerdict.STALE),
        (theirs(None, 4), None, 3, WriterVerdict.AHEAD),
        (theirs(None, 4), None, None, WriterVerdict.HARMLESS),
    ],
)
def test_each_foreign_record_has_a_verdict(
    record: LogRecord, ours: bytes | None, grave: int | None, verdict: WriterVerdict
) -> None:
    """Lower than the table is stale, higher is ahead, the same is harmless."""
    assert judge(record, ours, grave) is verdict


@given(logs_with_zombies())
def test_verdict_and_restore_agree(logs: tuple[list[ChangelogEntry], list[ChangelogEntry]]) -> None:
    """What is judged stale is what restoring would call stale, and what is ahead is what it would take."""
    _, log = logs
    if not log:
        return
    states, memory = restore(log[:-1])
    key, value, seq = log[-1]
    verdict = judge(LogRecord(0, key, value, seq), states.get(key), memory.graves.get(key))
    memory.stale.clear()
    before = dict(states)
    fold(states, memory, log[-1:])
    assert (verdict is WriterVerdict.STALE) == (key in memory.stale)
    if states != before:
        assert verdict is WriterVerdict.AHEAD


def test_a_key_is_published_again_once() -> None:
    """Several stale records of a key need one repair."""
    stale = [(theirs(state(1)), WriterVerdict.STALE), (theirs(state(2)), WriterVerdict.STALE)]
    assert keys_to_publish_again([*stale, (LogRecord(9, b"b", None), WriterVerdict.HARMLESS)]) == [b"a"]
