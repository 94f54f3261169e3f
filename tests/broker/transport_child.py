"""A process that copies records from one topic to another, for tests that kill, crash, stop and add such processes.

Each copy carries the pid of its copier in a header. On stdout: `ready` once, `got <partition> <offset>` when a record is
handed out (with --tell).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from processors.kafka.producer import Outgoing, Producer
from processors.transport.app import create_faust_app, raw_topic, run_apps
from processors.transport.batches import batches


def main() -> int:
    """Copy until stopped."""
    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser()
    for name in ("--bootstrap", "--group", "--source", "--sink"):
        parser.add_argument(name, required=True)
    parser.add_argument("--fail-at", help="the value whose record makes the agent fail")
    parser.add_argument("--hang-at", help="the value whose record the agent never finishes")
    parser.add_argument("--max-records", type=int, default=2_000)
    parser.add_argument("--pause-ms", type=int, default=0, help="work a batch takes")
    parser.add_argument("--settle-ms", type=int, default=5_000)
    parser.add_argument("--commit-ms", type=int, default=500)
    parser.add_argument("--tell", action="store_true")
    options = parser.parse_args()
    return copy(options)


def copy(options: argparse.Namespace) -> int:
    """Copy until stopped; the exit code is run_apps'."""
    app = create_faust_app(
        options.group,
        bootstrap_servers=options.bootstrap,
        data_dir=Path(tempfile.mkdtemp(prefix="transport-child-")),
        session_timeout=timedelta(seconds=3),
        heartbeat=timedelta(seconds=0.5),
        commit_interval=timedelta(milliseconds=options.commit_ms),
        settle=timedelta(milliseconds=options.settle_ms),
    )
    producer = Producer(options.bootstrap)
    pid = (("pid", str(os.getpid()).encode()),)

    @app.agent(raw_topic(app, options.source))
    async def copier(stream: Any) -> None:
        async for batch in batches(stream, options.max_records):
            for record in batch.records:
                if options.tell:
                    print("got", record.partition, record.offset, flush=True)
                value = (record.value or b"").decode()
                if value == options.hang_at:
                    await asyncio.Event().wait()
                if value == options.fail_at:
                    raise ValueError(f"told to fail at {record}")
                if options.fail_at or options.hang_at:
                    await producer.send([Outgoing(options.sink, record.partition, record.key, record.value, pid)])
                    batch.done_one(record)
            if not (options.fail_at or options.hang_at):
                await asyncio.sleep(options.pause_ms / 1000)
                records = batch.records
                await producer.send([Outgoing(options.sink, r.partition, r.key, r.value, pid) for r in records])
                batch.done()

    async def tell_ready() -> None:
        print("ready", flush=True)

    return run_apps([app], resources=[producer], on_ready=tell_ready, stop_within=timedelta(seconds=15))


if __name__ == "__main__":
    sys.exit(main())
