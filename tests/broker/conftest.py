"""A Kafka and a ClickHouse for the whole run, by one setting: see tests/providers.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import providers
from tests.broker.saga_rig import Rig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares servers: the tests of the rig, and those of a file; `--dist loadgroup` reads the marks."""
    for item in items:
        shares_rig = "rig" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("rig" if shares_rig else item.path.name))


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a Kafka that all modules share: make topics with names of your own."""
    with providers.kafka(tmp_path_factory.mktemp("shared-kafka")) as servers:
        yield servers


@pytest.fixture(scope="session")
def clickhouse_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[providers.ClickHouseAddress]:
    """A ClickHouse that all modules share: make tables with names of your own."""
    with providers.clickhouse(tmp_path_factory.mktemp("shared-clickhouse")) as address:
        yield address


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A whole engine that the saga tests share: give jobs names of your own."""
    with Rig(tmp_path_factory.mktemp("rig")) as running:
        yield running
