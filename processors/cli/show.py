"""How states and records look on a terminal, and as JSON."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich import markup
from rich.console import Console
from rich.table import Table

from processors.redaction import one_line

_COLOURS = {
    "RUNNING": "cyan",
    "COMPENSATING": "yellow",
    "PARKED": "red",
    "COMPLETED": "green",
    "COMPENSATED": "magenta",
}


def escape(text: str) -> str:
    """Return a stranger's text as it is shown between markup, on one line."""
    return markup.escape(one_line(text))


def console() -> Console:
    """Return a console on the present stdout; wide where nobody looks, so that pipes get whole lines."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 200)


def moment(ms: int) -> str:
    """Return a time in UTC, to the millisecond; empty for none."""
    if ms <= 0:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(value: object) -> str:
    """Return a value as one line of JSON; bytes that hold JSON become it, others base64."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: object) -> object:
    match value:
        case bytes():
            return _json_in(value)
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return value


def _json_in(value: bytes) -> object:
    if not value:
        return None
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def phase(state: Mapping[str, Any]) -> str:
    """Return a state's phase in its colour."""
    name = str(state["phase"])
    return f"[{_COLOURS.get(name, 'white')}]{name}[/]"


def under_way(state: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return what a saga is at: each step by name where the plan is known, else by number, and the attempt."""
    if state["phase"] in ("COMPLETED", "COMPENSATED"):
        return str(state["failed_step"])
    found = []
    for place, step in enumerate(state["steps"]):
        flight = step["in_flight"]
        if flight is not None:
            name = names[place] if place < len(names) else f"step {place + 1}"
            attempt = f" #{flight['attempt']}" if flight["attempt"] > 1 else ""
            found.append(f"{str(flight['action']).lower()} {name}{attempt}")
    return ", ".join(found)


def job_table(states: list[Mapping[str, Any]], names: Mapping[str, tuple[str, ...]]) -> Table:
    """Return one row a job; `names` are the steps of each plan by its hash."""
    table = Table("job", "phase", "at", "run", "updated", "label", "reason", box=None, pad_edge=False)
    for state in states:
        table.add_row(
            escape(state["job_id"]),
            phase(state),
            escape(under_way(state, names.get(state["plan_hash"], ()))),
            str(state["run"]),
            moment(state["updated_ms"]),
            escape(state["label"]),
            escape(state["reason"]),
        )
    return table


def print_job(out: Console, state: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Print all that is known of one job: what a person needs at night."""
    out.print(f"[bold]{escape(state['job_id'])}[/bold]  {phase(state)}  run {state['run']}  seq {state['seq']}")
    rows = [
        ("url", state["url"]),
        ("address", state["address"]),
        ("pipeline", f"{state['pipeline']} (plan {state['plan_hash']})"),
        ("label", state["label"]),
        ("at", under_way(state, names)),
        ("reason", state["reason"]),
        ("started", moment(state["started_ms"])),
        ("updated", moment(state["updated_ms"])),
        ("timer due", moment(state["due_ms"])),
        ("deadline", moment(state["deadline_ms"])),
    ]
    for name, text in rows:
        if text:
            out.print(f"  {name:<10} {escape(str(text))}")
    table = Table("step", "status", "attempts", "undo", "reason", box=None, pad_edge=False)
    for place, step in enumerate(state["steps"]):
        name = names[place] if place < len(names) else f"step {place + 1}"
        outcome_unknown = " (may have happened)" if step["outcome_unknown"] else ""
        undo = "" if step["undo"] == "NONE" else step["undo"]
        table.add_row(name, f"{step['status']}{outcome_unknown}", str(step["attempts"]), undo, escape(step["reason"]))
    out.print(table)
    for act in state["operator_actions"]:
        out.print(f"  by hand: {escape(act)}")
    if state["phase"] == "PARKED":
        job = state["job_id"]
        out.print(f"  It waits for a person: `scrapesaga resume {job}`, or with --skip --reason WHY, or `cancel`.")
