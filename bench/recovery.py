"""How long a coordinator takes to restore its table: `python bench/recovery.py 1000000`.

Fills a saga log with N states and restores it in a process of its own, pinned to one core, as a coordinator does after
a start: group join, reading, and the walk over all states that rebuilds the timers. The broker has the other cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not listed in its __all__

from processors.kafka.producer import Producer
from processors.local.kafka import EmbeddedKafka
from processors.transport.app import create_faust_app, raw_topic, serve
from processors.transport.batches import batches
from processors.transport.recovery import add_saga_table

SAGAS, EVENTS = "scrape.sagas", "scrape.events"
KEY_BYTES = 36
NOW_MS = 1_790_000_000_000


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        asyncio.run(restore(arguments))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(Path(folder) / "kafka", fast_start=False, login=False) as kafka,
    ):
        servers = kafka.bootstrap_servers
        began = time.monotonic()
        fill(servers, arguments.states, arguments.size, arguments.partitions)
        print(f"filled {arguments.states:,} states of {arguments.size} bytes in {time.monotonic() - began:.1f} s\n")
        print(f"{'':34}{'seconds':>8}{'CPU s':>8}{'states/s':>10}{'MB':>8}{'bytes a state':>15}")
        for store in arguments.store:
            data = Path(folder) / store
            show(store, run(servers, data, store, arguments))
            if store == "rocksdb":
                show(f"{store}, again", run(servers, data, store, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("states", type=int, help="how many states the log holds")
    parser.add_argument("--size", type=int, default=500, help="bytes of a state (500)")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--store", action="append", choices=["memory", "rocksdb"])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.store = arguments.store or ["memory", "rocksdb"]
    return arguments


def fill(servers: str, states: int, size: int, partitions: int) -> None:
    """Write the log: `states` sagas, evenly over the partitions."""
    admin = AdminClient({"bootstrap.servers": servers})
    topics = [
        NewTopic(SAGAS, partitions, config={"cleanup.policy": "compact"}),
        NewTopic(EVENTS, partitions),
    ]
    for made in admin.create_topics(topics).values():
        made.result(30)
    confluent = ConfluentProducer(
        {"bootstrap.servers": servers, "linger.ms": 50, "queue.buffering.max.messages": 200_000}
    )
    for number in range(states):
        head = b"\xc3\x01fingerpr" + _varint(1 + number % 9) + _varint(NOW_MS + number) + _varint(1)
        value = head + os.urandom(16) * (1 + (size - len(head)) // 16)
        while True:
            try:
                confluent.produce(SAGAS, value[:size], f"{number:0{KEY_BYTES}}", partition=number % partitions)
                break
            except BufferError:
                confluent.poll(0.1)
    confluent.flush()


def _varint(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def run(servers: str, data: Path, store: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Restore in a process of its own; what it measured."""
    command = [sys.executable, __file__, str(arguments.states), "--child", servers, "--data", str(data)]
    done = subprocess.run([*command, "--store", store], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if found["states"] != arguments.states:
        sys.exit(f"{store}: restored {found['states']:,.0f} of {arguments.states:,} states")
    return found


def show(title: str, found: dict[str, float]) -> None:
    rate = found["states"] / found["seconds"]
    print(
        f"{title:34}{found['seconds']:8.1f}{found['cpu']:8.1f}{rate:10,.0f}{found['bytes'] / 1e6:8.0f}"
        f"{found['bytes'] / found['states']:15.0f}"
    )


async def restore(arguments: argparse.Namespace) -> None:
    """Start a coordinator's app, wait until it is restored, print what that took as JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    (store,) = arguments.store
    producer, stop = Producer(arguments.child), asyncio.Event()
    app = create_faust_app(
        f"bench-{arguments.data.name}",
        bootstrap_servers=arguments.child,
        store=f"{store}://",
        data_dir=arguments.data,
    )
    walked = 0

    def walk(partition: int, items: Iterable[tuple[bytes, bytes]]) -> None:
        nonlocal walked
        walked += sum(1 for _ in items)

    table = add_saga_table(
        app,
        producer=producer,
        client={"bootstrap.servers": arguments.child},
        topic=SAGAS,
        on_restored=walk,
    )

    @app.agent(raw_topic(app, EVENTS))
    async def coordinate(stream: object) -> None:
        async for _ in batches(stream):  # type: ignore[arg-type]  # a stream
            pass

    before_bytes, before_cpu, began = _rss_bytes(), time.process_time(), time.monotonic()
    found: dict[str, float] = {}

    async def on_ready() -> None:
        await app.tables.wait_until_recovery_completed()
        found.update(
            seconds=time.monotonic() - began,
            cpu=time.process_time() - before_cpu,
            bytes=_rss_bytes() - before_bytes,
            states=walked if walked else len(table),
        )
        stop.set()

    if await serve([app], stop, resources=[producer], on_ready=on_ready) != 0:
        sys.exit("The app failed; see above.")
    print(json.dumps(found))


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
