"""Tells one record of a history to a person."""

from __future__ import annotations

from processors.errors import BadRecord
from processors.messages.wire import decode_command, decode_event, decode_saga_fields
from processors.saga.events import Failed
from processors.saga.plan import Plan
from processors.simulation.engine.kafka import Stored
from topics.catalogue import Catalogue


def told_record(record: Stored, catalogue: Catalogue, plan: Plan) -> str:
    """Return a line for a record of the engine's own topics, or nothing for what a story doesn't need."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    job = (record.key or b"").decode(errors="replace")
    try:
        if record.topic == catalogue.events.name:
            event = decode_event(record.value, lambda _: plan)
            about = [str(value) for name in ("step", "seq") if (value := getattr(event, name, ""))]
            unknown = ["outcome unknown"] if isinstance(event, Failed) and event.unknown else []
            why = [str(why)] if (why := getattr(event, "reason", "")) else []
            return f"{where}  {job}: {type(event).__name__} {' '.join(about)} {', '.join((*why, *unknown))}".rstrip()
        if record.topic == catalogue.sagas.name:
            if record.value is None:
                return f"{where}  {job}: forgotten"
            state = decode_saga_fields(record.value)
            at = plan.steps[state["cursor"]].name
            return f"{where}  {job}: {state['phase']}, run {state['run']}, seq {state['seq']}, {state['action'].lower()} {at}"
        if record.topic == catalogue.dead_letters.name:
            reason = dict(record.headers).get("dead-letter-reason", b"").decode(errors="replace")
            return f"{where}  {job}: set aside: {reason}"
        if record.topic.endswith(".commands"):
            command = decode_command(record.value)
            return f"{where}  {job}: {command.action.lower()} {command.step}, seq {command.seq}, attempt {command.attempt}"
    except BadRecord:
        return f"{where}  a record that nobody can read"
    return ""
