"""What each function costs an event, without Kafka: `python -m bench.costs`. Microseconds of CPU, the best of several rounds.

One saga of five steps is told by the rules themselves, so the events, commands and states are those of S1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import yaml
from rich.console import Console
from rich.table import Table

from bench.engine import PIPELINE, pipeline
from bench.load import request
from bench.shells import coordinator_us, runner_us
from processors.messages.scrape_request import canonical_url, check_job_id, content_hash, read_request
from processors.messages.wire import (
    decode_command,
    decode_event,
    decode_saga,
    encode_command,
    encode_event,
    encode_saga,
)
from processors.pipeline.pipeline import read_pipeline
from processors.saga.commands import StepCommand
from processors.saga.events import Event, Submitted, Succeeded
from processors.saga.plan import Plan
from processors.saga.protocol import advance
from processors.saga.state import Origin, Saga
from processors.saga_table.changelog import peek
from processors.step import StepOutput

_NOW_MS = 1_790_000_000_000
_ROUNDS = 7
_TURNS = 400


def story(plan: Plan) -> tuple[list[Event], list[Saga], list[StepCommand]]:
    """The events, states and commands of one saga that completes."""
    job = read_request(request("S1-abc123-0000001", 1), None)
    payload = msgspec.json.encode(job.payload)
    submitted = Submitted(
        job.job_id or "", plan, job.url, payload, content_hash(PIPELINE, job.url, payload), Origin(1, 2)
    )
    output = msgspec.json.encode(StepOutput(data={"text": "x" * 360}))
    events: list[Event] = [submitted]
    states: list[Saga] = []
    commands: list[StepCommand] = []
    saga: Saga | None = None
    for number, event in enumerate(events):
        decision = advance(saga, 1000 + number, event, _NOW_MS + number)
        saga = decision.saga
        if saga is None:
            raise RuntimeError("a submission must begin a saga")
        states.append(saga)
        for command in decision.commands:
            if isinstance(command, StepCommand):
                commands.append(command)
                events.append(Succeeded(command.job_id, command.run, command.step, command.seq, output))
    return events, states, commands


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(yaml.safe_dump(pipeline()))
        plan = read_pipeline(path)
    events, states, commands = story(plan)
    replies = events[1:]
    value = request("S1-abc123-0000001", 1)
    extra = {"attempt": 1, "took_us": 100, "label": "", "trace": ""}
    encoded_events = [encode_event(event) for event in events]
    encoded_states = [encode_saga(saga) for saga in states]
    encoded_commands = [encode_command(command) for command in commands]
    before: list[Saga | None] = [None, *states[:-1]]
    plans = {plan.hash: plan}.__getitem__
    url = "https://shop.example/S1-abc123-0000001"

    def identity(_: object) -> str:
        check_job_id("abc")
        return canonical_url(url)

    rows: list[tuple[str, float, Callable[[Any], Any], Sequence[Any]]] = [
        ("intake: read_request", 1, lambda _: read_request(value, None), (0,)),
        ("intake: canonical_url, check_job_id", 1, identity, (0,)),
        ("intake: content_hash", 1, lambda _: content_hash(PIPELINE, url, value), (0,)),
        ("intake: encode_event", 1, encode_event, events[:1]),
        ("coordinator: decode_event", 6, lambda data: decode_event(data, plans), encoded_events),
        (
            "coordinator: advance",
            6,
            lambda p: advance(p[0], p[2], p[1], _NOW_MS + 10),
            list(zip(before, events, range(1000, 1006), strict=True)),
        ),
        ("coordinator: encode_command", 5, encode_command, commands),
        ("coordinator: encode_saga", 6, encode_saga, states),
        ("coordinator: peek", 6, peek, encoded_states),
        ("(coordinator: decode_saga, not cached)", 0, lambda data: decode_saga(data, plans), encoded_states),
        ("step: decode_command", 5, decode_command, encoded_commands),
        ("step: encode_event", 5, lambda event: encode_event(event, **extra), replies),
    ]
    table = Table("function", title="CPU without Kafka", title_justify="left")
    for heading in ("us a call", "calls a saga", "us a saga"):
        table.add_column(heading, justify="right")
    total = 0.0
    for name, calls, function, arguments in rows:
        cost = cost_us(function, arguments)
        total += cost * calls
        table.add_row(name, f"{cost:.1f}", f"{calls:g}" if calls else "", f"{cost * calls:.0f}" if calls else "")
    table.add_row("all", "", "", f"{total:.0f}")
    console = Console()
    console.print(table)
    coordinator = min(asyncio.run(coordinator_us(plan, events)) for _ in range(_ROUNDS))
    worker = min(asyncio.run(runner_us(plan, commands[2], NoHost())) for _ in range(_ROUNDS))
    console.print(f"without Kafka: coordinator {coordinator:.1f} us an event, worker {worker:.1f} us a command")
    sizes = {"events": encoded_events, "states": encoded_states, "commands": encoded_commands}
    for what, encoded in sizes.items():
        console.print(f"bytes of {what}: {', '.join(str(len(one)) for one in encoded)}")


class NoHost:
    """Steps that do nothing need nothing."""

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)


def cost_us(function: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    """CPU of one call in microseconds, on average over the arguments, in the best round."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_TURNS):
            for one in arguments:
                function(one)
        best = min(best, time.process_time() - began)
    return best / _TURNS / len(arguments) * 1e6


if __name__ == "__main__":
    main()
