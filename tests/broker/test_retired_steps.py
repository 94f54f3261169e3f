"""A step that is taken out of its pipeline while jobs are in flight: refused at start, with the setting that helps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer

from processors.errors import ConfigurationError
from processors.kafka.reader import Reader
from processors.local.engine import LocalEngine
from processors.local.errors import LocalError
from tests.chaos.asking import scrapesaga

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


def pipeline(folder: Path, *steps: str) -> Path:
    """A pipeline whose fetch waits an hour between attempts."""
    path = folder / "shop.yaml"
    retry = {"attempts": 9, "base": "1h", "cap": "1h", "total": "9h"}
    given = [{"use": "fetch", "retry": retry}, {"use": "parse", "with": {"fields": {"title": {"css": "h1"}}}}]
    chosen = [one for one in given if one["use"] in steps]
    path.write_text(yaml.safe_dump({"name": "shop", "steps": chosen}), "utf-8")
    return path


def engine(folder: Path, *steps: str, **settings: str) -> LocalEngine:
    """An engine in this folder; what it was before lies there still."""
    return LocalEngine(
        folder / "engine",
        [pipeline(folder, *steps)],
        settings={"SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8", "SCRAPESAGA_SESSION_TIMEOUT": "4s", **settings},
    )


def in_flight(running: LocalEngine) -> None:
    """Submit a job, and wait until its first attempt has failed and the next one waits."""
    producer = Producer({**running.client, "acks": "all"})
    producer.produce("scrape.urls", json.dumps({"url": "http://127.0.0.1:1/", "job_id": "flown"}).encode())
    assert producer.flush(30) == 0
    give_up = time.monotonic() + 60
    while True:
        said = scrapesaga(running, "status", "flown", "--json")
        flights = [one["in_flight"] for one in json.loads(said.stdout)["steps"]] if said.returncode == 0 else []
        if any(flight and not flight["command_seq"] for flight in flights):
            return
        assert time.monotonic() < give_up, said.stderr
        time.sleep(0.3)


def test_a_step_taken_out_under_a_job_in_flight_is_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    """The coordinator says which sagas need the step and what to set; with it set, the engine starts."""
    with engine(tmp_path, "fetch", "parse") as running:
        in_flight(running)
    with pytest.raises((LocalError, ConfigurationError), match="SCRAPESAGA_RETIRED_STEPS=parse"):
        engine(tmp_path, "fetch").start()
    with engine(tmp_path, "fetch", SCRAPESAGA_RETIRED_STEPS="parse") as running:
        assert Reader(running.client).partitions("scrape.parse.commands")
        assert scrapesaga(running, "status", "flown").returncode == 0
