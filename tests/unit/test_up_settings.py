"""`scrapesaga up` hands the settings of its shell to the engine."""

from __future__ import annotations

import inspect
from pathlib import Path

from processors.demo import demo
from processors.local import background, up
from processors.local.clickhouse import EmbeddedClickHouse
from processors.local.engine import LocalEngine
from processors.local.kafka import EmbeddedKafka
from processors.local.private import kept_password, private_folder
from processors.local.up import given


def test_no_fault_can_be_switched_on() -> None:
    """What `up` and `demo` start can't be told to misbehave: the engine's switch is off, and neither has an option."""
    assert inspect.signature(LocalEngine).parameters["clickhouse_faults"].default is False
    for product in (up, background, demo):
        assert "clickhouse_faults" not in inspect.getsource(product)


def test_a_login_for_elsewhere_is_not_used_here(tmp_path: Path) -> None:
    """Own servers have passwords of their own: those of the shell are for a Kafka and a ClickHouse elsewhere."""
    shell = {
        "SCRAPESAGA_SECURITY_PROTOCOL": "SASL_SSL",
        "SCRAPESAGA_SASL_USERNAME": "me",
        "SCRAPESAGA_SASL_PASSWORD": "s3cret",
        "SCRAPESAGA_CLICKHOUSE_USER": "me",
        "SCRAPESAGA_CLICKHOUSE_PASSWORD": "s3cret",
    }
    for server in ("kafka", "clickhouse"):
        kept_password(private_folder(tmp_path / server) / "password")
    settings, secrets = given(shell)
    own = LocalEngine(tmp_path, [], clickhouse_url="http://127.0.0.1:2", settings=settings, extra=secrets)
    own.kafka = StartedKafka(tmp_path / "kafka")
    told = own.settings()
    assert (told.security_protocol, told.sasl_username) == ("SASL_PLAINTEXT", "scrapesaga")
    assert (told.clickhouse_user, told.clickhouse_password.reveal()) == ("me", "s3cret")
    assert told.sasl_password.reveal() not in ("", "s3cret")
    elsewhere = LocalEngine(tmp_path, [], bootstrap_servers="k:1", settings=settings, extra=secrets)
    elsewhere.clickhouse = StartedClickHouse(tmp_path / "clickhouse")
    told = elsewhere.settings()
    assert (told.sasl_username, told.sasl_password.reveal()) == ("me", "s3cret")
    assert told.clickhouse_user == "default" and told.clickhouse_password.reveal() not in ("", "s3cret")
    assert "s3cret" not in repr(own.environment()) + repr(elsewhere.environment())
    assert elsewhere.warehouse.password not in repr(elsewhere.warehouse)


class StartedKafka(EmbeddedKafka):
    """One with an address."""

    port = 3


class StartedClickHouse(EmbeddedClickHouse):
    """One with an address."""

    port = 4


def test_settings_of_the_shell_reach_the_engine(tmp_path: Path) -> None:
    """They win over the defaults of a local engine, and not over its addresses; secrets are written to no file."""
    shell = {
        "SCRAPESAGA_LOG_FORMAT": "json",
        "SCRAPESAGA_PARTITIONS": "2",
        "SCRAPESAGA_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
        "SCRAPESAGA_SCHEMA_REGISTRY_PASSWORD": "s3cret",
        "SCRAPESAGA_BOOTSTRAP_SERVERS": "elsewhere:9092",
        "SCRAPESAGA_STORE": "",
        "PATH": "/bin",
    }
    settings, secrets = given(shell)
    engine = LocalEngine(
        tmp_path,
        [],
        bootstrap_servers="127.0.0.1:1",
        clickhouse_url="http://127.0.0.1:2",
        settings=settings,
        extra=secrets,
    )
    told = engine.settings()
    assert (told.log_format, told.partitions, told.bootstrap_servers) == ("json", 2, "127.0.0.1:1")
    assert told.schema_registry_password.reveal() == "s3cret"
    assert "s3cret" not in repr(engine.environment()) and "PATH" not in settings
