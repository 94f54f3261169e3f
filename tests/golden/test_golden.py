"""The logs of released versions, replayed: this checkout decides what they decided, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.errors import BadRecord
from processors.messages.wire import decode_event
from processors.operations.queries import plan_book
from processors.saga import handlers, moves
from processors.saga.commands import Note
from processors.saga.protocol import advance
from processors.saga.state import Saga
from tests.golden import logs

VERSIONS = sorted(
    path.name for path in Path(__file__).parent.iterdir() if (path / f"{logs.EVENTS}{logs.SUFFIX}").exists()
)


def folder(version: str) -> Path:
    return Path(__file__).parent / version


def test_there_is_a_released_log() -> None:
    """Without one, nothing here could fail."""
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_log_is_decided_as_it_was(version: str) -> None:
    """Every state and command of a released log follows from its events still; the first that doesn't is named.

    If this fails, sagas in flight would change their course at the upgrade: make the new rule hold for new plans only.
    """
    report = logs.replay(folder(version))
    assert not report.divergences, f"the first of {len(report.divergences)}: {report.divergences[0]}"
    assert min(report.states, report.commands) > 50


@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_log_has_seen_everything(version: str) -> None:
    """Retries, aborts, a late answer, a parked job, an operator's acts, an end that is forgotten: a rule of each is held."""
    plans = plan_book(logs.read(folder(version), logs.PLANS))
    sagas: dict[str, Saga | None] = {}
    notes = set()
    for record in logs.read(folder(version), logs.EVENTS):
        try:
            event = decode_event(record.value, plans)
        except BadRecord:
            continue
        decision = advance(sagas.get(event.job_id), record.offset, event, record.timestamp_ms)
        sagas[event.job_id] = decision.saga
        notes.add(decision.note)
    rare = {Note.LATE_EFFECT, Note.ANSWERED, Note.STALE, Note.EARLY, Note.IGNORED, Note.ORPHANED, Note.REPEATED}
    assert set(Note) - rare <= notes


@pytest.mark.parametrize(
    ("module", "name", "changed"),
    [
        (moves, "jitter", lambda saga: 0.5),
        (moves, "maybe_happened", lambda step: False),
        (handlers, "stands", lambda saga: False),
    ],
)
def test_a_changed_rule_is_found(module: object, name: str, changed: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backoff that waits otherwise, an undo that is left out, a record that isn't withdrawn: the first record is named."""
    monkeypatch.setattr(module, name, changed)
    report = logs.replay(folder("0.1.0"))
    assert report.divergences
    assert "seq" in report.divergences[0]
    assert "@" in report.divergences[0]
