"""Writes docs/protocol.md from the table that production uses: the state diagram and every row."""

from __future__ import annotations

import inspect

from processors.saga.events import EVENTS
from processors.saga.protocol import PROTOCOL
from processors.saga.state import Phase

_HEAD = """\
# The protocol

<!-- Written by processors/saga/diagram.py from processors/saga/protocol.py: to change this page, change the table there, then run
     `python -m processors.saga.diagram > docs/protocol.md`. A test fails while this page is out of date. -->

The state of a saga is the fold of its events: `decide(saga, event, now) -> (saga, commands)`.
The tables below have one row for each event in each phase.
A transition to a phase that the row does not list raises an error.
A job in phase NEW has no state: it was never submitted, or it was forgotten after its retention.

"""


def transitions() -> dict[tuple[Phase, Phase], list[str]]:
    """Return which events lead from one phase to another, by the table, without the events that keep the phase."""
    found: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), row in PROTOCOL.items():
        for following in Phase:
            if following in row.leads_to and following is not phase:
                found.setdefault((phase, following), []).append(event.__name__)
    return found


def mermaid() -> str:
    """Return the state diagram in Mermaid."""
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    for (phase, following), names in sorted(transitions().items(), key=_place):
        lines.append(f"    {phase} --> {following}: {', '.join(names)}")
    return "\n".join(lines)


def _place(item: tuple[tuple[Phase, Phase], list[str]]) -> tuple[int, int]:
    order = list(Phase)
    return order.index(item[0][0]), order.index(item[0][1])


def table(phase: Phase) -> str:
    """Return one phase's rows as a Markdown table: the event, its handler, the next phases."""
    lines = ["| event | handler | what it does | leads to |", "|---|---|---|---|"]
    for event in EVENTS:
        row = PROTOCOL[phase, event]
        leads_to = ", ".join(one.value for one in Phase if one in row.leads_to)
        does = (inspect.getdoc(row.handler) or "").partition("\n")[0]
        lines.append(f"| {event.__name__} | `{row.handler.__name__}` | {does} | {leads_to} |")
    return "\n".join(lines)


def render() -> str:
    """Return the whole document."""
    parts = [_HEAD, "```mermaid\n", mermaid(), "\n```\n"]
    for phase in Phase:
        parts += [f"\n## {phase}\n\n", table(phase), "\n"]
    return "".join(parts)


if __name__ == "__main__":
    print(render(), end="")
