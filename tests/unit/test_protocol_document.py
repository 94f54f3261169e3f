"""docs/protocol.md is what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.saga import handlers
from processors.saga.diagram import mermaid, render, table, transitions
from processors.saga.events import Succeeded
from processors.saga.protocol import PROTOCOL, ProtocolRow
from processors.saga.state import Phase

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_document_is_not_stale() -> None:
    """The document is what the table generates, to the byte."""
    assert DOCUMENT.read_text("utf-8") == render(), "run: python -m processors.saga.diagram > docs/protocol.md"


def test_every_row_is_shown_with_what_it_does() -> None:
    """Each of the rows has a line, and each handler says what it does."""
    text = render()
    for (phase, event), row in PROTOCOL.items():
        assert f"| {event.__name__} | `{row.handler.__name__}` | " in table(phase)
        assert row.handler.__doc__
    assert text.count("\n| ") == len(PROTOCOL) + len(Phase)


def test_the_diagram_follows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that leads elsewhere changes the diagram."""
    assert "    COMPLETED --> RUNNING: Submitted, Redriven" in mermaid()
    assert (Phase.COMPENSATED, Phase.COMPENSATING) in transitions()
    row = ProtocolRow(handlers.ignore, frozenset({Phase.COMPENSATED}))
    monkeypatch.setitem(PROTOCOL, (Phase.COMPENSATED, Succeeded), row)
    assert "    COMPENSATED --> COMPENSATING: Failed" in mermaid()
