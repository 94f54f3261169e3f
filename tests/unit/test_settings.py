"""The settings' promises: read once, all checked, every mistake named, no secret shown."""

from __future__ import annotations

import copy
import re
from dataclasses import FrozenInstanceError, asdict
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.durations import format_duration, parse_duration, parse_size
from processors.errors import ConfigurationError
from processors.kafka.credentials import kafka_security
from processors.settings.reference import reference
from processors.settings.settings import SETTINGS, LogFormat, SecurityProtocol, Settings, Store
from topics.catalogue import Catalogue

DOCS = Path(__file__).parents[2] / "docs"
PASSWORD = "correct horse battery staple"


def read(**variables: str) -> Settings:
    return Settings.from_env({f"SCRAPESAGA_{name}": value for name, value in variables.items()})


def problem_with(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(**variables)
    return str(caught.value)


def test_without_variables_every_default_holds() -> None:
    """An empty environment gives the defaults, which are those of the catalogue too."""
    assert read() == Settings()
    assert read().catalogue() == Catalogue()
    assert read().catalogue(("fetch",)).steps == ("fetch",)


def test_each_kind_is_read_from_its_text() -> None:
    """Words in any case, durations, sizes, lists and networks become typed values."""
    settings = read(
        BOOTSTRAP_SERVERS="kafka-0:9092, kafka-1:9093,[::1]:9092",
        STORE="RocksDB",
        LOG_FORMAT="json",
        SESSION_TIMEOUT="1m30s",
        MAX_PAGE_SIZE="20MB",
        MAX_IN_FLIGHT="7",
        ALLOW_ADDRESSES="10.1.0.0/16, ::1, Api.internal, straße.example",
        CLICKHOUSE_URL="http://clickhouse:8123/",
        DATA_DIR="/var/lib/scrapesaga",
    )
    assert settings.bootstrap_servers == "kafka-0:9092,kafka-1:9093,[::1]:9092"
    assert settings.store is Store.ROCKSDB
    assert settings.log_format is LogFormat.JSON
    assert settings.session_timeout == timedelta(seconds=90)
    assert settings.max_page_size == 20_000_000
    assert settings.max_in_flight == 7
    assert settings.allow_addresses == (
        ip_network("10.1.0.0/16"),
        ip_network("::1"),
        "Api.internal",
        "straße.example",
    )
    assert settings.clickhouse_url == "http://clickhouse:8123"
    assert settings.data_dir == Path("/var/lib/scrapesaga")


def test_files_and_folders_must_exist(tmp_path: Path) -> None:
    """A path to read from is checked at the start, each one of a list."""
    one = tmp_path / "one.yaml"
    one.touch()
    assert read(PIPELINES=f"{one}, {tmp_path}").pipelines == (one, tmp_path)
    assert "SCRAPESAGA_PIPELINES: '/nowhere' does not exist." in problem_with(PIPELINES=f"{one},/nowhere")
    assert "SCRAPESAGA_SCHEMAS_DIR: '/nowhere' does not exist." in problem_with(SCHEMAS_DIR="/nowhere")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PARTITIONS", "many", "'many' is not a whole number"),
        ("PARTITIONS", "0", "0 is not between 1 and 100000"),
        ("HTTP_PORT", "65536", "65536 is not between 0 and 65535"),
        ("BOOTSTRAP_SERVERS", "kafka", "'kafka' is not a server: write host:port"),
        ("BOOTSTRAP_SERVERS", "a:1,b:0", "'b:0' is not a server"),
        ("SECURITY_PROTOCOL", "TLS", "'TLS' is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ("DRAIN_TIMEOUT", "30", "'30' is not a duration"),
        ("SESSION_TIMEOUT", "1ms", "'1ms' is not between"),
        ("MAX_PAGE_SIZE", "10 pages", "'10 pages' is not a size"),
        ("ALLOW_ADDRESSES", "10.0.0.1/8", "'10.0.0.1/8' is not an address, a network or a host name"),
        ("CLICKHOUSE_URL", "clickhouse", "'clickhouse' is not a URL"),
        ("TOPIC_PREFIX", "my topics", "Prefix 'my topics'"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_would_do(name: str, value: str, said: str) -> None:
    """What can't be read stops the process, by variable."""
    problem = problem_with(**{name: value})
    assert f"SCRAPESAGA_{name}" in problem
    assert said in problem


def test_all_mistakes_are_told_at_once() -> None:
    """An operator mends everything in one go."""
    lines = problem_with(PARTITIONS="x", STORE="redis", TOPIC_PREFX="acme").splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "SCRAPESAGA_TOPIC_PREFX",
        "SCRAPESAGA_PARTITIONS",
        "SCRAPESAGA_STORE",
    ]


def test_an_unknown_variable_is_an_error_that_suggests_the_nearest() -> None:
    """A typo doesn't silently leave the default."""
    assert "did you mean SCRAPESAGA_BOOTSTRAP_SERVERS?" in problem_with(BOOTSTRAP_SERVER="kafka:9092")
    assert "did you mean SCRAPESAGA_SASL_PASSWORD_FILE?" in problem_with(SASL_PASSWORD_FIL="/run/x")
    assert "docs/settings.md" in problem_with(QQQ="1")


def test_a_setting_that_is_gone_says_what_to_do() -> None:
    """Whoever still sets it learns that it has no successor, instead of a guess at a name alike."""
    problem = problem_with(TRANSPORT="fast")
    assert problem == "SCRAPESAGA_TRANSPORT: there is only one transport now, the former `fast`: unset this variable."


def test_variables_of_others_are_left_alone() -> None:
    """Other programs' variables, the local runtime's, the tests' and Kubernetes' service links are no mistakes."""
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": "tcp://10.0.0.1:80",
        "CONSOLE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "CONSOLE_PORT_80_TCP_ADDR": "10.0.0.1",
        "CONSOLE_SERVICE_HOST": "10.0.0.1",
    }
    assert read(CACHE="/tmp/c", MAVEN="http://mirror", TEST_BROKER="embedded", **links) == Settings()
    assert Settings.from_env({"PATH": "/bin", "KAFKA_HEAP": "1"}) == Settings()


def test_a_service_link_over_a_setting_is_explained() -> None:
    """A Service named scrapesaga-http would set the port: the message says how to stop Kubernetes from that."""
    assert "enableServiceLinks: false" in problem_with(HTTP_PORT="tcp://10.0.0.1:80")


def test_an_empty_variable_is_not_set() -> None:
    """Charts render what isn't configured as an empty value."""
    assert read(PARTITIONS="", SASL_PASSWORD="", SCHEMAS_DIR="", SASL_PASSWORD_FILE="") == Settings()


def test_settings_are_frozen() -> None:
    """Nothing changes a setting after the start, the environment neither."""
    environ = {"SCRAPESAGA_PARTITIONS": "3", "TOKEN": "a"}
    settings = Settings.from_env(environ)
    environ.update(SCRAPESAGA_PARTITIONS="4", TOKEN="b")
    assert (settings.text("PARTITIONS"), settings.secret("TOKEN")) == ("3", "a")
    with pytest.raises(FrozenInstanceError):
        settings.partitions = 4  # type: ignore[misc]  # that it can't is the point


def sasl(**more: str) -> dict[str, str]:
    return {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": "scraper", **more}


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    """Neither repr, str, format, asdict nor an error shows a password, whether given directly or by file."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    for settings in (read(**sasl(SASL_PASSWORD=PASSWORD)), read(**sasl(SASL_PASSWORD_FILE=str(file)))):
        assert settings.sasl_password.reveal() == PASSWORD
        shown = f"{settings!r} {settings} {settings.sasl_password} {asdict(settings)} {copy.copy(settings)}"
        assert PASSWORD not in shown
        assert "scraper" in shown
    assert PASSWORD not in problem_with(SASL_PASSWORD=PASSWORD, SASL_PASSWORD_FILE=str(file))
    assert PASSWORD not in problem_with(CLICKHOUSE_URL=f"http://me:{PASSWORD.replace(' ', '')}@db:8123")


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, empty or no text: the message has the path and not the content."""
    binary, empty = tmp_path / "binary", tmp_path / "empty"
    binary.write_bytes(b"sesame\xff")
    empty.write_text("\n")
    assert "cannot read /nowhere (No such file or directory)" in problem_with(**sasl(SASL_PASSWORD_FILE="/nowhere"))
    assert f"{empty} is empty" in problem_with(**sasl(SASL_PASSWORD_FILE=str(empty)))
    problem = problem_with(**sasl(SASL_PASSWORD_FILE=str(binary)))
    assert f"cannot read {binary} (not UTF-8)" in problem
    assert "sesame" not in problem


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "SCRAPESAGA_SASL_USERNAME"),
        ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_USERNAME": "a"}, "SCRAPESAGA_SASL_PASSWORD"),
        ({"SASL_USERNAME": "a", "SASL_PASSWORD": "b"}, "SCRAPESAGA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"SSL_CAFILE": __file__}, "SCRAPESAGA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CERTFILE": __file__}, "SCRAPESAGA_SSL_KEYFILE"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_KEYFILE": __file__}, "SCRAPESAGA_SSL_CERTFILE"),
        ({"SCHEMA_REGISTRY_USER": "a"}, "SCRAPESAGA_SCHEMA_REGISTRY_URL"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(variables: dict[str, str], named: str) -> None:
    """A setting that would have no effect, or lacks its other half, stops the process."""
    assert named in problem_with(**variables)


def test_credentials_reach_every_client() -> None:
    """What was set is what librdkafka gets."""
    security = kafka_security(read(**sasl(SASL_PASSWORD=PASSWORD, SASL_MECHANISM="PLAIN")))
    assert security.for_confluent() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "scraper",
        "sasl.password": PASSWORD,
    }
    assert kafka_security(read()).for_confluent() == {"security.protocol": SecurityProtocol.PLAINTEXT}


def test_a_steps_secret_comes_from_a_variable_or_a_mounted_file(tmp_path: Path) -> None:
    """The variable wins; the file's last newline isn't part of the secret."""
    (tmp_path / "API_KEY").write_text("from file\r\n")
    (tmp_path / "OTHER").write_text("from file")
    settings = Settings.from_env({"SCRAPESAGA_SECRETS_DIR": str(tmp_path), "OTHER": "from variable"})
    assert settings.secret("API_KEY") == "from file"
    assert settings.secret("OTHER") == "from variable"


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "", ".hidden", "SCRAPESAGA_SASL_PASSWORD", "a b"])
def test_a_step_cannot_read_what_is_no_secret_of_its_own(name: str, tmp_path: Path) -> None:
    """No path leads out of the folder, and the worker's own passwords are none of a step's."""
    (tmp_path / ".hidden").write_text("x")
    environ = {"SECRETS_DIR": str(tmp_path), **sasl(SASL_PASSWORD="x")}
    settings = Settings.from_env({**{f"SCRAPESAGA_{key}": value for key, value in environ.items()}, "a b": "x"})
    with pytest.raises(ConfigurationError, match=re.escape(repr(name))):
        settings.secret(name)


def test_a_missing_secret_says_where_to_put_it(tmp_path: Path) -> None:
    """The message names the variable, and the file where there is a folder for it."""
    with pytest.raises(ConfigurationError, match="set the variable API_KEY, or SCRAPESAGA_SECRETS_DIR"):
        read().secret("API_KEY")
    with pytest.raises(ConfigurationError, match=re.escape(f"cannot read {tmp_path / 'API_KEY'}")):
        read(SECRETS_DIR=str(tmp_path)).secret("API_KEY")


def test_a_step_reads_settings_by_name() -> None:
    """As written, else the step's default, else the setting's; a name that is no setting is an error."""
    settings = read(CLICKHOUSE_URL="http://db:8123", CLICKHOUSE_PASSWORD=PASSWORD)
    assert settings.text("CLICKHOUSE_URL") == "http://db:8123"
    assert settings.text("CLICKHOUSE_PASSWORD") == PASSWORD
    assert settings.text("CLICKHOUSE_USER") == "default"
    assert settings.text("CLICKHOUSE_DATABASE", "shop") == "shop"
    with pytest.raises(ConfigurationError, match="did you mean SCRAPESAGA_CLICKHOUSE_URL"):
        settings.text("CLICKHOUSE_UR")


def test_every_setting_is_described() -> None:
    """Each has words for it, a section and a default that reads back as the field's default."""
    for setting in SETTINGS:
        assert setting.doc, setting
        assert setting.section, setting
        assert setting.kind.read(setting.default) == getattr(Settings(), setting.field)


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    """docs/settings.md is what the table says; `python -m processors.settings.reference` prints it anew."""
    assert (DOCS / "settings.md").read_text() == reference()


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("30s", 30_000),
        ("1m30s", 90_000),
        ("250ms", 250),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1.5s", 1_500),
        ("0s", 0),
        (" 5m ", 300_000),
        ("1d2h3m4s5ms", 93_784_005),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    """Units add up, the largest first."""
    assert parse_duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize(
    "text", ["", "30", 30, 1.5, None, True, "s", "30 s", "-1s", "1s1m", "1s1s", "1w", "1sx", "x1s", "9" * 30 + "d"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    """A bare number too: 30 what?"""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_durations_survive_being_written(milliseconds: int) -> None:
    """What format_duration writes, parse_duration reads back."""
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("10MB", 10_000_000), ("10MiB", 10_485_760), ("512 KiB", 524_288), ("1.5kb", 1_500), ("7", 7), (7, 7), ("1B", 1)],
)
def test_sizes_are_read(text: object, size_bytes: int) -> None:
    """MB counts thousands and MiB counts 1024s; a bare number is bytes."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 pages", "1ib", True, None, 1.5])
def test_what_is_no_size_is_refused(text: object) -> None:
    """Anything else is an error, not zero."""
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
