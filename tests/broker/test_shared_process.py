"""Every role in one process, one of a package among them: it does what many processes do, and stops as one."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.operations.queries import all_states
from processors.process.roles import installed_roles
from tests.broker.observed_world import PIPELINES, until
from tests.plugins import install

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin_role"
ROLES = ("coordinator", "first", "second", "intake", "count-records")


@pytest.fixture(scope="module")
def engine(kafka_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """One process of all roles, with the example's package installed."""
    folder = tmp_path_factory.mktemp("shared")
    site = install(PLUGIN, folder / "site")
    pipeline = folder / "default.yaml"
    pipeline.write_text(PIPELINES["default"])
    with pytest.MonkeyPatch.context() as patch:
        # As in the processes: what is to be played is checked before they start.
        patch.syspath_prepend(str(site))
        installed_roles.cache_clear()
        made = LocalEngine(
            folder / "data",
            [pipeline],
            bootstrap_servers=kafka_servers,
            clickhouse_url="http://127.0.0.1:1",
            settings={
                "SCRAPESAGA_TOPIC_PREFIX": f"shared{uuid.uuid4().hex[:8]}",
                "SCRAPESAGA_PARTITIONS": "2",
                "SCRAPESAGA_SESSION_TIMEOUT": "3s",
                "SCRAPESAGA_COMMIT_INTERVAL": "200ms",
                "SCRAPESAGA_LOG_FORMAT": "json",
            },
            extra={"PYTHONPATH": os.pathsep.join((str(ROOT), str(site)))},
            processes="one+count-records",
        )
        with made:
            yield made
    installed_roles.cache_clear()


def produce(engine: LocalEngine, topic: str, *records: tuple[bytes | None, bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": engine.bootstrap_servers})
    for key, value in records:
        producer.produce(engine.settings().catalogue(()).topic(topic).name, value, key)
    assert producer.flush(20) == 0


def submit(engine: LocalEngine, *jobs: str, **payload: str) -> None:
    requests = [{"url": f"http://shop.test/{job}", "job_id": job, "payload": payload} for job in jobs]
    produce(engine, "urls", *((None, json.dumps(request).encode()) for request in requests))


def phases(engine: LocalEngine, *jobs: str) -> set[str]:
    reader = Reader({"bootstrap.servers": engine.bootstrap_servers})
    states: dict[str, dict[str, Any]] = {
        one["job_id"]: one for one in all_states(reader, engine.settings().catalogue(()).sagas.name).all()
    }
    return {states.get(job, {}).get("phase", "none") for job in jobs}


def samples(engine: LocalEngine) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    (address,) = engine.observed.values()
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def counted(engine: LocalEngine, what: str) -> float:
    return samples(engine).get(("count_records_total", frozenset({("what", what)})), 0.0)


def test_sagas_end_as_they_should(engine: LocalEngine) -> None:
    """One completes, one is undone, through topics that one process reads and writes."""
    submit(engine, "fine")
    submit(engine, "doomed", second="fail")
    until(lambda: phases(engine, "fine") == {"COMPLETED"}, "a saga completed")
    until(lambda: phases(engine, "doomed") == {"COMPENSATED"}, "a saga undone")


def test_a_packages_role_reads_beside_them(engine: LocalEngine) -> None:
    """It counts what is on scrape.records, on the same page of metrics, with its own lag and in its own group."""
    produce(engine, "records", (b"a", b"one"), (b"b", b"two"), (b"a", None))
    until(lambda: counted(engine, "written") == 2 and counted(engine, "withdrawn") == 1, "three records counted")
    about = {name: dict(labels) for name, labels in samples(engine) if name == "scrapesaga_build_info"}
    assert about["scrapesaga_build_info"]["roles"].split(",") == list(ROLES)
    read = {dict(labels)["topic"].partition(".")[2] for name, labels in samples(engine) if "lag" in name and labels}
    assert read == {"urls", "events", "first.commands", "second.commands", "records"}


def test_there_is_one_of_everything(engine: LocalEngine) -> None:
    """One process, one address of health and metrics, ready when all roles are."""
    assert list(engine.supervisor.pids()) == list(engine.observed) == ["coordinator+4"]
    assert engine.not_ready() == {}


def test_a_kill_takes_all_roles_and_loses_nothing(engine: LocalEngine) -> None:
    """SIGKILL amid work: the process comes back with every role, and every saga ends."""
    jobs = [f"killed-{number}" for number in range(40)]
    submit(engine, *jobs)
    until(lambda: "none" not in phases(engine, *jobs[:5]), "some work")
    os.kill(engine.supervisor.pids()["coordinator+4"], signal.SIGKILL)
    until(lambda: phases(engine, *jobs) == {"COMPLETED"}, "the end of all jobs")


def test_sigterm_stops_all_roles_in_order(engine: LocalEngine) -> None:
    """The process ends by itself, with what is done committed: the next one is given nothing again."""
    until(lambda: engine.not_ready() == {}, "readiness")
    before = counted(engine, "written")
    produce(engine, "records", (b"c", b"three"))
    until(lambda: counted(engine, "written") == before + 1, "another record")
    assert engine.stop_process("coordinator+4")
    log = (engine.data_dir / "logs" / "coordinator+4.log").read_text()
    assert "SIGTERM: stopping." in log
    assert "delivered again" not in log
    engine.start_process(*ROLES)
    until(lambda: engine.not_ready() == {}, "readiness")
    submit(engine, "afterwards")
    until(lambda: phases(engine, "afterwards") == {"COMPLETED"}, "a saga after the restart")
    assert counted(engine, "written") == 0
