"""How states and records look on a terminal, and as JSON."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console
from rich.table import Table

from processors.auditor.violations import position_fields
from processors.operations.queries import under_way
from processors.redaction import one_line

if TYPE_CHECKING:
    from processors.operations.job_history import Decoded
    from processors.operations.spending import PipelineSpend
    from processors.operations.verification import AuditStatus
    from processors.saga.invariants import Violation

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
        out.print(f"  operator: {escape(act)}")
    if state["phase"] == "PARKED":
        job = state["job_id"]
        out.print(
            f"  It waits for an operator: run `scrapesaga resume {job}`, or with --skip --reason WHY, or `scrapesaga cancel {job}`."
        )


# --- what the log holds -----------------------------------------------------------------------------------------------


def record_line(one: Decoded) -> str:
    """Return one line: time, place, gist; for a dead letter why it is one."""
    why = one.header("dead-letter-reason")
    after = f"  dead letter: {why}" if why else ""
    return one_line(f"{moment(one.record.timestamp_ms)}  {one.record}  {one.gist()}{after}")


def record_json(one: Decoded) -> str:
    """Return all of a record as one line of JSON."""
    record = one.record
    return as_json(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "time": moment(record.timestamp_ms),
            "key": record.key,
            "headers": dict(record.headers),
            "message": one.message or None,
            "value": one.fields or record.value,
        }
    )


def violation_json(one: Violation) -> str:
    """Return a violation as one line of JSON."""
    return as_json({"invariant": one.rule, "job_id": one.job_id, **position_fields(one), "detail": one.detail})


def audit_json(one: AuditStatus) -> str:
    """Return what an audit counted as one line of JSON."""
    return as_json(
        {
            "events": one.events,
            "lag": one.lag,
            "unjudged": one.unjudged,
            "stuck": one.stuck,
            "states": one.states,
            "broken": one.violations,
        }
    )


def spend_json(one: PipelineSpend) -> str:
    """Return a pipeline's spending as one line of JSON."""
    states = {state.value.lower(): {"entries": n, "cost": str(cost)} for state, (n, cost) in one.states.items()}
    return as_json({"pipeline": one.pipeline, "spent": str(one.spent), "entries": one.entries, "states": states})


def spend_table(found: list[PipelineSpend]) -> Table:
    """Return one row a pipeline."""
    table = Table("pipeline", "spent", "entries", "by state", box=None, pad_edge=False)
    for one in found:
        told = ", ".join(f"{n} {state.lower()}" for state, (n, _) in sorted(one.states.items()))
        table.add_row(one.pipeline, str(one.spent), str(one.entries), told)
    return table
