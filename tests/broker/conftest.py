"""A Kafka and a ClickHouse for the whole run, by one setting: see tests/providers.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import providers
from tests.broker.observed_world import FETCHING, SECRET, Engine
from tests.broker.otlp_receiver import Receiver
from tests.broker.saga_rig import Rig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares an engine, and the tests of a file; `--dist loadgroup` reads the marks."""
    for item in items:
        shared = [name for name in ("rig", "observed") if name in getattr(item, "fixturenames", ())]
        # Processes that a test kills leave their pipes to the collector, which may find them in any later test.
        item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
        item.add_marker(pytest.mark.xdist_group(shared[0] if shared else item.path.name))


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
def receiver() -> Iterator[Receiver]:
    """A collector of traces on loopback."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def observed(kafka_servers: str, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Engine]:
    """An engine of two processes that metrics, traces and the command line look at: give jobs names of your own.

    Whoever ends a process starts it again; whoever counts takes a count before.
    """
    extra = {
        "SCRAPESAGA_OTEL_ENDPOINT": receiver.url,
        "SCRAPESAGA_ALLOW_ADDRESSES": "127.0.0.0/8",
        "SCRAPESAGA_SASL_MECHANISM": "PLAIN",
        "PAGE_TOKEN": SECRET,
    }
    folder = tmp_path_factory.mktemp("observed")
    with Engine(
        kafka_servers, folder, "observed", extra, {"fetching": FETCHING.replace("ORIGIN", receiver.url)}
    ) as running:
        yield running


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A whole engine that the saga tests share: give jobs names of your own."""
    with Rig(tmp_path_factory.mktemp("rig")) as running:
        yield running
