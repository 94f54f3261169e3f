"""S6: the full pipeline against a loopback shop, a loopback paid API and a real ClickHouse engine in process."""

from __future__ import annotations

import time
from pathlib import Path

import yaml
from confluent_kafka import Producer

from bench.load import PHASES
from bench.rows import ResultRow
from bench.usage import Usage
from processors.demo.demo import demo_pipeline
from processors.demo.sample_servers import SampleServers
from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.saga_table.changelog import peek

NAME = "scrapesaga"
_GIVE_UP_S = 600.0


def measure(folder: Path, urls: int) -> ResultRow:
    """Take `urls` product pages from a shop without faults through fetch, parse, two paid calls, load and notify."""
    with SampleServers(folder / "world", products=urls) as world:
        path = folder / "shop.yaml"
        path.write_text(yaml.safe_dump(demo_pipeline(world), sort_keys=False))
        engine = LocalEngine(
            folder / "engine",
            [path],
            settings={
                "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
                "SCRAPESAGA_CLICKHOUSE_DATABASE": "default",
            },
            extra={"DEMO_API_TOKEN": world.api_token},
        )
        with engine:
            return _carry(engine, world, urls)


def _carry(engine: LocalEngine, world: SampleServers, urls: int) -> ResultRow:
    prefix = engine.settings().topic_prefix
    client = engine.client
    reader = Reader(client)
    pids = {**engine.supervisor.pids(), "shop and API": world.pid}
    for name, server in (("broker", engine.kafka), ("ClickHouse", engine.clickhouse)):
        if server is not None and server.pid is not None:
            pids[name] = server.pid
    before = Usage.of(pids)
    producer = Producer({**client, "acks": "all", "log_level": 0})
    for url in world.urls():
        producer.produce(f"{prefix}.urls", encode_request(ScrapeRequest(url=url)))
    producer.flush(30)
    give_up = time.monotonic() + _GIVE_UP_S
    phases: dict[str, int] = {}
    ended: dict[bytes, int] = {}
    while len(ended) < urls:
        if time.monotonic() > give_up:
            raise TimeoutError(f"{len(ended)} of {urls} sagas have ended within {_GIVE_UP_S:.0f} s")
        time.sleep(0.5)
        for record in reader.records(f"{prefix}.sagas"):
            phase = "" if record.value is None else PHASES[peek(record.value)[2]]
            if phase in ("COMPLETED", "COMPENSATED", "PARKED") and record.key not in ended:
                ended[record.key or b""] = record.timestamp_ms
                phases[phase] = phases.get(phase, 0) + 1
    usage = Usage.of(pids)
    began = min(record.timestamp_ms for record in reader.records(f"{prefix}.urls"))
    cpu = {name: used / urls for name, used in usage.since(before).items()}
    return ResultRow(
        NAME,
        "S6",
        sagas_per_s=urls / ((max(ended.values()) - began) / 1000),
        cpu_ms_per_saga=sum(cpu.values()),
        rss_mb=sum(usage.rss.values()),
        settings={"urls": urls},
        cpu=cpu,
        more={phase.lower(): float(count) for phase, count in phases.items()},
    )
