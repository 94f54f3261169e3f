"""`scrapesaga spend` on a real topic: what it shows, and what is left after it has forgotten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from processors.auditor.spend import SpendAudit
from processors.cli.app import app
from processors.kafka.reader import Reader
from processors.kafka.sync_producer import SyncProducer
from processors.messages.wire import encode_saga
from processors.process.provisioning import apply_topics
from processors.settings.settings import Settings
from processors.spend.book import SpendEntry, SpendState
from processors.spend.pruning import carried_key, carry
from tests.sagas import completed

pytestmark = pytest.mark.broker

LONG_AGO = datetime.now(UTC) - timedelta(days=400)


def entry(job: str, at: datetime, state: SpendState = SpendState.PAID) -> SpendEntry:
    """A call of pipeline p that cost 0.5."""
    key = f"{job}:1:enrich"
    return SpendEntry(
        key=key, version=1, pipeline="p", step="enrich", content_hash=job, state=state, seq=1, written_by=key,
        at=at.isoformat(), cost=Decimal("0.5"), cap=Decimal(10), response=b"{}", known=True,
    )  # fmt: skip


@pytest.fixture
def environment(kafka_servers: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of topics of this test's own, with a ledger of 5 old entries, 1 young one, and 1 of a live saga."""
    environment = {
        "SCRAPESAGA_BOOTSTRAP_SERVERS": kafka_servers,
        "SCRAPESAGA_TOPIC_PREFIX": request.node.name.replace("_", "-"),
        "SCRAPESAGA_PARTITIONS": "1",
    }
    settings = Settings.from_env(environment)
    catalogue = settings.catalogue(("enrich",))
    apply_topics(settings, catalogue)
    sender = SyncProducer({"bootstrap.servers": kafka_servers})
    entries = [entry(f"old-{number}", LONG_AGO) for number in range(4)]
    entries += [
        entry("undone", LONG_AGO, SpendState.CANCELLED),
        entry("young", datetime.now(UTC)),
        entry("j", LONG_AGO),
    ]
    for one in entries:
        sender.send(catalogue.spend.name, one.encode(), key=one.key.encode(), partition=0)
    sender.send(catalogue.sagas.name, encode_saga(completed().state), key=b"j", partition=0)
    sender.finish()
    return environment


def run(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    """Run the command; return what it wrote."""
    result = CliRunner().invoke(app, ["spend", *arguments], env=dict(environment))
    assert result.exit_code == code, result.output
    return result.output


def shown(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return what was spent, and the number of entries."""
    told = json.loads(run(environment, "show", "--json"))
    return told["spent"], told["entries"]


def test_forgetting_keeps_the_sum(environment: dict[str, str]) -> None:
    """Old entries go, the young one and the live saga's stay, the sum too; a second time there is nothing to do.

    The auditor finds nothing wrong with it.
    """
    assert shown(environment) == ("3.0", 7)
    assert "p: 5 entries, 2.0 kept in the sum" in run(environment, "forget", "--older-than", "90d", "--dry-run")
    assert shown(environment) == ("3.0", 7)
    run(environment, "forget", "--older-than", "90d")
    assert shown(environment) == ("3.0", 3)
    assert run(environment, "forget", "--older-than", "90d") == ""
    assert "p" in run(environment, "show")
    broken: list[object] = []
    audit = SpendAudit(broken.append)
    settings = Settings.from_env(environment)
    for record in Reader({"bootstrap.servers": settings.bootstrap_servers}).records(settings.catalogue().spend.name):
        audit.entry(record)
    assert audit.entries and not broken


def test_giving_back_makes_room_under_the_cap(environment: dict[str, str]) -> None:
    """Their cost leaves the sum."""
    run(environment, "forget", "--older-than", "90d", "--give-back")
    assert shown(environment) == ("1.0", 2)


def test_a_run_that_broke_off_is_finished(environment: dict[str, str]) -> None:
    """Killed between the carried entry and the tombstones, the next run writes those, and carries nothing twice."""
    settings = Settings.from_env(environment)
    going = [entry("old-0", LONG_AGO), entry("old-1", LONG_AGO)]
    carried = carry(None, "p", going, datetime.now(UTC))
    sender = SyncProducer({"bootstrap.servers": settings.bootstrap_servers})
    sender.send(settings.catalogue().spend.name, carried.encode(), key=carried.key.encode(), partition=0)
    sender.finish()
    assert shown(environment) == ("4.0", 8) and carried.key == carried_key("p")
    run(environment, "forget", "--older-than", "90d")
    assert shown(environment) == ("3.0", 3)


def test_what_a_command_may_still_need_is_not_forgotten(environment: dict[str, str]) -> None:
    """An age below the commands' retention is refused: one that is delivered again must find what it has paid for."""
    assert "at least 7d" in run(environment, "forget", "--older-than", "6d", code=1)
    assert "--older-than" in run(environment, "forget", "--older-than", "soon", code=2)
