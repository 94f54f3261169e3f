"""`scrapesaga up` hands the settings of its shell to the engine."""

from __future__ import annotations

from pathlib import Path

from processors.local.engine import LocalEngine
from processors.local.up import given


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
