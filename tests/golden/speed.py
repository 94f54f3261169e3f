"""How fast the log is judged, in CPU time of one core: `python -m tests.golden.speed [JOBS] [--kafka]`.

Without a broker it is the judgement alone; with one, an embedded Kafka is filled, and `audit --follow --to-end` and
`audit verify` read it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from processors.auditor.auditor import Auditor
from processors.auditor.follow import Beginning, Follower
from processors.auditor.scope import Scope
from processors.kafka.reader import Reader
from processors.kafka.sync_producer import SyncProducer
from processors.local.kafka import EmbeddedKafka
from processors.operations.engine import Session
from processors.operations.verification import verify_in
from processors.pipeline.plan_store import UnknownPlan
from processors.saga.plan import encode_plan
from processors.settings.settings import Settings
from tests.broker.tampered import write
from tests.honest import CATALOGUE, PARTITIONS, Engine

AT_ONCE = 2_000
KEPT = timedelta(days=7)


def measured(what: str, jobs: int, work: Callable[[], tuple[int, int]]) -> int:
    """Run some work that returns how many events it judged and what it found wrong, and print what it took."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    events, wrong = work()
    took = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{what}: {events} events of {jobs} jobs in {took:.2f} CPU s: {events / took:,.0f} events/s, "
        f"{jobs / took:,.0f} sagas/s, {grown:.0f} MiB more, {wrong} promises broken",
        flush=True,
    )
    return wrong


def judge(engine: Engine) -> tuple[int, int]:
    """Audit a log in the order in which it was written."""
    records = sorted((one for topic in engine.topics.values() for one in topic), key=lambda one: one.timestamp_ms)
    auditor = Auditor(Scope(CATALOGUE, {partition: 0 for partition in range(PARTITIONS)}), engine.plans)
    for start in range(0, len(records), AT_ONCE):
        for record in records[start : start + AT_ONCE]:
            if record.topic != CATALOGUE.events.name:
                auditor.other(record)
                continue
            try:
                auditor.event(record)
            except UnknownPlan:
                auditor.unreadable(record)
        auditor.settle(engine.now)
    return auditor.events, sum(auditor.violations.values())


def on_kafka(engine: Engine, jobs: int, folder: Path) -> int:
    """Write the log to a broker, and audit it there in both ways."""
    engine.append("scrape.plans", b"plan:" + engine.plan.hash.encode(), encode_plan(engine.plan), partition=0)
    topics = {name.removeprefix(f"{CATALOGUE.prefix}."): records for name, records in engine.topics.items()}
    with EmbeddedKafka(folder) as kafka:
        client = kafka.client
        catalogue = write(client, CATALOGUE, topics, "speed")
        topics.clear()
        engine.topics.clear()

        def follow() -> tuple[int, int]:
            follower = Follower(Reader(client), Beginning(catalogue, 0, KEPT, KEPT))
            follower.to_end()
            follower.close()
            return follower.auditor.events, sum(follower.auditor.violations.values())

        def decide_again() -> tuple[int, int]:
            session = Session(
                Settings.from_env({"SCRAPESAGA_TOPIC_PREFIX": "speed"}), Reader(client), lambda: SyncProducer(client)
            )
            report = verify_in(session)
            return report.events, len(report.divergences)

        wrong = measured("audit --follow --to-end", jobs, follow)
        return wrong + measured("audit verify", jobs, decide_again)


def main(argv: list[str]) -> int:
    """Measure; return 1 if anything was found wrong with an honest log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=int, nargs="?", default=5_000)
    parser.add_argument("--kafka", action="store_true")
    asked = parser.parse_args(argv)
    # Recent enough for nothing to be removed by retention, old enough for its clock to run ahead by days.
    engine = Engine(1, failures=0.1, now=int(time.time() * 1000) - 30 * 3_600_000)
    engine.run(asked.jobs)
    if not asked.kafka:
        return 1 if measured("the judgement alone", asked.jobs, lambda: judge(engine)) else 0
    with tempfile.TemporaryDirectory() as folder:
        return 1 if on_kafka(engine, asked.jobs, Path(folder)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
