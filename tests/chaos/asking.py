"""Asks a running engine what an operator would ask: its lag, its audit, any command of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from processors.local.engine import LocalEngine
from processors.process.apps import group_of
from processors.process.roles import COORDINATOR, INTAKE
from processors.saga.invariants import LogPosition

_CLI = "import sys; from processors.cli import main; sys.exit(main())"


def lags(engine: LocalEngine, steps: Sequence[str]) -> dict[str, int]:
    """Return how many records each role has not committed; -1 if its group can't be asked now."""
    settings = engine.settings()
    topics = {INTAKE: "urls", COORDINATOR: "events", **{f"step:{step}": f"{step}.commands" for step in steps}}
    found = {}
    for role, short in topics.items():
        topic = f"{settings.topic_prefix}.{short}"
        group = group_of(settings, role)
        consumer = Consumer({**engine.client, "group.id": group, "log_level": 0})
        try:
            count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
            lag = 0
            for place in consumer.committed([TopicPartition(topic, number) for number in range(count)], timeout=10):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=10)
                lag += high - (place.offset if place.offset >= 0 else low)
            found[role] = lag
        except KafkaException:
            found[role] = -1
        finally:
            consumer.close()
    return found


def divergences(engine: LocalEngine, poison: Collection[LogPosition]) -> tuple[str, ...]:
    """Return what `scrapesaga audit verify` says, but for our own poison among the commands, which it finds, too."""
    answer = scrapesaga(engine, "audit", "verify", "--json")
    try:
        report = json.loads(answer.stdout)
    except ValueError:
        return (f"audit verify ended with {answer.returncode}: {answer.stderr[-2_000:]}",)
    ours = [f"{one.topic}-{one.partition}@{one.offset}:" for one in poison if one.topic.endswith(".commands")]
    # The report names the first twenty only.
    if report["divergences"] == len(ours):
        return ()
    named = tuple(one for one in report["first"] if not one.startswith(tuple(ours) or ("\0",)))
    return named or (f"{report['divergences'] - len(ours)} more than the poison that was put there",)


def scrapesaga(engine: LocalEngine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line against the engine."""
    return subprocess.run(
        [sys.executable, "-P", "-c", _CLI, *arguments],
        env=engine.whole_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
