"""Temporal as a peer of the benchmark: five no-op activities with compensations, one worker, a server that you run.

    python -m venv temporal && temporal/bin/pip install temporalio
    temporal server start-dev --db-filename temporal.db
    python -m bench --peer "Temporal=temporal/bin/python bench/peers/temporal_peer.py"

TEMPORAL_ADDRESS names another server than 127.0.0.1:7233, TEMPORAL_LOCAL=1 uses local activities. CPU is measured over
this program and its descendants: start the server from it by TEMPORAL_SERVER="temporal server start-dev ..." to have its
CPU counted. The contract is in bench/peer.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from temporalio import activity, workflow  # type: ignore[import-not-found,unused-ignore]  # installed by whoever runs this
from temporalio.client import Client  # type: ignore[import-not-found,unused-ignore]
from temporalio.common import RetryPolicy  # type: ignore[import-not-found,unused-ignore]
from temporalio.exceptions import ActivityError, ApplicationError  # type: ignore[import-not-found,unused-ignore]
from temporalio.worker import UnsandboxedWorkflowRunner, Worker  # type: ignore[import-not-found,unused-ignore]

STEPS = ("fetch", "parse", "enrich", "load", "notify")
UNDOABLE = ("fetch", "enrich")
QUEUE = "bench"
LOCAL = os.environ.get("TEMPORAL_LOCAL") == "1"


@activity.defn  # type: ignore[untyped-decorator,unused-ignore]
async def do(step: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Do nothing with some 400 bytes in and out."""
    if payload.get("fails_at") == step:
        raise ApplicationError("made to fail", non_retryable=True)
    return {"text": "x" * len(payload["text"])}


@activity.defn  # type: ignore[untyped-decorator,unused-ignore]
async def undo(step: str, output: dict[str, Any]) -> None:
    """Undo nothing."""


async def act(function: Any, *arguments: Any) -> Any:
    """Run an activity, local or dispatched."""
    execute = workflow.execute_local_activity if LOCAL else workflow.execute_activity
    return await execute(
        function,
        args=arguments,
        start_to_close_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(maximum_attempts=5),
    )


@workflow.defn  # type: ignore[untyped-decorator,unused-ignore]
class TemporalSaga:
    """Five steps; undo those that were done if one fails."""

    @workflow.run  # type: ignore[untyped-decorator,unused-ignore]
    async def run(self, payload: dict[str, Any]) -> str:
        """Run the saga."""
        done: list[tuple[str, dict[str, Any]]] = []
        for step in STEPS:
            try:
                done.append((step, await act(do, step, payload)))
            except ActivityError:
                for earlier, output in reversed(done):
                    if earlier in UNDOABLE:
                        await act(undo, earlier, output)
                return "compensated"
        return "completed"


async def carry(client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    """Run one scenario."""
    text = "x" * (asked["payload_bytes"] - 40)
    room = asyncio.Semaphore(asked["in_flight"])
    times: list[float] = []
    ends = {"completed": 0, "compensated": 0}

    async def one(number: int) -> None:
        fails = asked["fails_every"] and number % asked["fails_every"] == 0
        payload = {"number": number, "text": text, **({"fails_at": "load"} if fails else {})}
        async with room:
            began = time.perf_counter()
            end = await client.execute_workflow(TemporalSaga.run, payload, id=f"bench-{uuid.uuid4()}", task_queue=QUEUE)
            ends[end] += 1
            times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(asked["sagas"])))
    if asked["scenario"] == "S2":
        return {"latencies_ms": times}
    return {"seconds": time.perf_counter() - began, **ends}


async def connected(address: str) -> Client:
    """Connect; a server that was just started needs a few seconds."""
    for _ in range(60):
        try:
            return await Client.connect(address)
        except RuntimeError:
            await asyncio.sleep(0.5)
    raise SystemExit(f"no Temporal server at {address}: start one, or name it by TEMPORAL_ADDRESS")


async def main() -> None:
    """Answer until standard input closes."""
    server = os.environ.get("TEMPORAL_SERVER")
    started = subprocess.Popen(shlex.split(server), stdout=subprocess.DEVNULL) if server else None
    try:
        client = await connected(os.environ.get("TEMPORAL_ADDRESS", "127.0.0.1:7233"))
        runner = UnsandboxedWorkflowRunner()
        async with Worker(
            client, task_queue=QUEUE, workflows=[TemporalSaga], activities=[do, undo], workflow_runner=runner
        ):
            print(json.dumps({"ready": f"temporalio {version('temporalio')}{', local' if LOCAL else ''}"}), flush=True)
            loop = asyncio.get_running_loop()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                asked = json.loads(line)
                supported = asked["scenario"] in ("S1", "S2", "S3")
                answer = await carry(client, asked) if supported else {"unsupported": "this harness has S1 to S3"}
                print(json.dumps(answer), flush=True)
    finally:
        if started is not None:
            started.terminate()


if __name__ == "__main__":
    asyncio.run(main())
