"""Every setting on one screen: read once from SCRAPESAGA_* environment variables, checked, then frozen."""
# ruff: noqa: RUF009 - a setting's default is read from its text by a call, once, and never changes.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

from processors.errors import ConfigurationError
from processors.settings.environment import PREFIX, Environment, Setting, nearest
from processors.settings.kinds import (
    ADDRESSES,
    EXISTING_PATH,
    EXISTING_PATHS,
    NAMES,
    PATH,
    SECRET,
    SERVERS,
    TEXT,
    URL,
    IpNetwork,
    Secret,
    SettingKind,
    choice,
    duration,
    number,
    size,
)
from topics.catalogue import DEFAULT_STEPS, Catalogue, Retention
from topics.errors import BadCatalogue

_T = TypeVar("_T")


class SecurityProtocol(StrEnum):
    """How clients talk to Kafka."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def encrypts(self) -> bool:
        """Whether the connection is encrypted."""
        return self in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def logs_in(self) -> bool:
        """Whether a user name and password are sent."""
        return self in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)


class SaslMechanism(StrEnum):
    """How a user name and password are sent to Kafka."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class Store(StrEnum):
    """Where the coordinator keeps its table."""

    MEMORY = "memory"
    ROCKSDB = "rocksdb"


class LogLevel(StrEnum):
    """The least severe lines that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """What a log line looks like."""

    TEXT = "text"
    JSON = "json"


def _setting(kind: SettingKind[_T], default: str, doc: str, section: str = "") -> _T:
    described = {"kind": kind, "default": default, "doc": doc, "section": section}
    return field(default=kind.read(default), metadata=described)


_COUNT = number(1, 100_000)
_KEPT = duration(timedelta(minutes=1), timedelta(days=36_500))
_PAST = duration(timedelta(0), timedelta(days=36_500))
_SESSION = duration(timedelta(milliseconds=500), timedelta(minutes=30))
_SHORT = duration(timedelta(milliseconds=1), timedelta(hours=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a process, read at its start. A field `x_y` is set by SCRAPESAGA_X_Y; secrets by ..._FILE too."""

    bootstrap_servers: str = _setting(SERVERS, "127.0.0.1:9092", "Kafka's bootstrap servers", "Kafka")
    security_protocol: SecurityProtocol = _setting(
        choice(SecurityProtocol), "PLAINTEXT", "protocol between clients and Kafka"
    )
    sasl_mechanism: SaslMechanism = _setting(choice(SaslMechanism), "SCRAM-SHA-512", "login mechanism, with SASL_*")
    sasl_username: str = _setting(TEXT, "", "user name at Kafka, with SASL_*")
    sasl_password: Secret = _setting(SECRET, "", "password at Kafka, with SASL_*")
    ssl_cafile: Path | None = _setting(
        EXISTING_PATH, "", "PEM file of the certificate authority; without it, the system's authorities"
    )
    ssl_certfile: Path | None = _setting(EXISTING_PATH, "", "PEM file of the client's certificate, for mutual TLS")
    ssl_keyfile: Path | None = _setting(EXISTING_PATH, "", "PEM file of the client's key, for mutual TLS")

    topic_prefix: str = _setting(TEXT, "scrape", "prefix of every topic name", "Topics")
    partitions: int = _setting(_COUNT, "8", "partitions of topics keyed by job_id; can't change later")
    replication_factor: int = _setting(number(1, 100), "1", "replicas of each partition; 3 in production")
    retention_urls: timedelta = _setting(_KEPT, "7d", "how long Kafka keeps submitted URLs")
    retention_commands: timedelta = _setting(
        _KEPT, "7d", "how long Kafka keeps commands; set it longer than any outage"
    )
    retention_events: timedelta = _setting(_KEPT, "30d", "how long Kafka keeps events; an audit can read so far back")
    retention_results: timedelta = _setting(_KEPT, "30d", "how long Kafka keeps the results of steps")
    retention_pages: timedelta = _setting(_KEPT, "30d", "how long Kafka keeps pages; a redrive can reuse them so long")
    retention_dead_letters: timedelta = _setting(_KEPT, "90d", "how long Kafka keeps dead letters")
    retention_history: timedelta = _setting(_KEPT, "7d", "how long compacted topics keep all versions of a key")
    retention_tombstones: timedelta = _setting(_KEPT, "7d", "how long a reader can be away without missing a deletion")
    max_page_size: int = _setting(size(1000, 512 * 1024**2), "10MiB", "largest page that is archived, compressed")

    pipelines: tuple[Path, ...] = _setting(
        EXISTING_PATHS, "", "pipeline files, or folders with pipeline files", "Steps"
    )
    default_pipeline: str = _setting(TEXT, "", "pipeline of requests that name none; needed with several pipelines")
    retired_steps: tuple[str, ...] = _setting(
        NAMES, "", "steps removed from all pipelines that sagas in flight still need"
    )
    schemas_dir: Path | None = _setting(EXISTING_PATH, "", "folder with your own record schemas, *.avsc")
    secrets_dir: Path | None = _setting(EXISTING_PATH, "", "folder with one file for each secret that a step names")
    allow_addresses: tuple[IpNetwork | str, ...] = _setting(
        ADDRESSES, "", "private addresses, networks and host names that steps may call"
    )
    parse_processes: int = _setting(number(1, 64), "1", "processes per parse worker that read pages")
    clickhouse_url: str = _setting(URL, "", "HTTP address of ClickHouse")
    clickhouse_user: str = _setting(TEXT, "default", "user name at ClickHouse")
    clickhouse_password: Secret = _setting(SECRET, "", "password at ClickHouse")
    clickhouse_database: str = _setting(TEXT, "default", "ClickHouse database that load writes to")
    schema_registry_url: str = _setting(URL, "", "schema registry; with it, records are in Confluent's wire format")
    schema_registry_user: str = _setting(TEXT, "", "user name at the schema registry")
    schema_registry_password: Secret = _setting(SECRET, "", "password at the schema registry")

    store: Store = _setting(choice(Store), "memory", "where the coordinator keeps its table", "Processes")
    data_dir: Path = _setting(PATH, ".scrapesaga", "folder for the table on disk; keep it for fast restarts")
    standby_replicas: int = _setting(number(0, 10), "0", "number of other coordinators that keep a copy of each table")
    session_timeout: timedelta = _setting(
        _SESSION, "10s", "time until Kafka gives the partitions of a silent process to others"
    )
    commit_interval: timedelta = _setting(
        _SHORT, "1s", "how often offsets are committed; a crash repeats the work since then"
    )
    drain_timeout: timedelta = _setting(_SHORT, "25s", "how long a stopping process waits for its steps in flight")
    max_in_flight: int = _setting(_COUNT, "64", "steps that one worker runs at the same time")

    audit_since: timedelta = _setting(_PAST, "1h", "how far back an auditor reads at its start; 0s: everything")

    http_host: str = _setting(TEXT, "127.0.0.1", "address of metrics and health; 0.0.0.0 in a pod", "Observation")
    http_port: int = _setting(number(0, 65535), "0", "port of metrics and health; 0: off")
    log_level: LogLevel = _setting(choice(LogLevel), "info", "lowest level that is logged")
    log_format: LogFormat = _setting(choice(LogFormat), "text", "format of log lines")
    otel_endpoint: str = _setting(URL, "", "base address of the OTLP/HTTP collector for traces; needs the extra otel")
    otel_sample: int = _setting(number(0, 100), "100", "percent of requests without a traceparent that are traced")

    environment: Environment = field(default_factory=Environment, repr=False, compare=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read all settings. Raises ConfigurationError that lists every mistake.

        An empty variable counts as not set, as charts and compose files produce them.
        """
        environment = Environment(environ)
        given, problems = {}, list(environment.unknown(SETTINGS))
        for setting in SETTINGS:
            try:
                text = environment.text(setting)
                if text:
                    given[setting.field] = setting.kind.read(text)
            except ValueError as error:
                problems.append(f"{setting.variable}: {error}.")
        settings = cls(**given, environment=environment)
        if not problems:
            problems.extend(_contradictions(settings))
        if problems:
            raise ConfigurationError("\n".join(problems))
        return settings

    def catalogue(self, steps: tuple[str, ...] = DEFAULT_STEPS) -> Catalogue:
        """Return the topics that these settings and steps ask for."""
        try:
            return Catalogue(
                prefix=self.topic_prefix,
                partitions=self.partitions,
                replication_factor=self.replication_factor,
                steps=steps,
                retention=Retention(
                    urls=self.retention_urls,
                    commands=self.retention_commands,
                    events=self.retention_events,
                    results=self.retention_results,
                    pages=self.retention_pages,
                    dead_letters=self.retention_dead_letters,
                    history=self.retention_history,
                    tombstones=self.retention_tombstones,
                ),
                max_page_bytes=self.max_page_size,
            )
        except BadCatalogue as error:
            raise ConfigurationError(f"{PREFIX}TOPIC_PREFIX, or a step's name: {error}") from error

    def text(self, name: str, default: str = "") -> str:
        """Return the setting SCRAPESAGA_<NAME> as it was written, else `default`, else the setting's own default.

        Secrets are returned in the clear. Raises ConfigurationError for a name that is no setting.
        """
        for setting in SETTINGS:
            if setting.field == name.lower():
                return self.environment.text(setting) or default or setting.default
        raise ConfigurationError(f"{PREFIX}{name.upper()}: no such setting{nearest(name.upper(), SETTINGS)}")

    def secrets(self) -> Iterator[str]:
        """Yield the values of all secret settings, so that log lines can redact them."""
        for setting in SETTINGS:
            if setting.kind.secret and (value := getattr(self, setting.field)):
                yield value.reveal()

    def secret(self, name: str) -> str:
        """Return a secret that a step names: the environment variable, else the file of that name in `secrets_dir`.

        Raises ConfigurationError if there is neither. A step can't read the settings of its worker this way.
        """
        return self.environment.secret(name, self.secrets_dir)


def _declared() -> Iterator[Setting]:
    section = ""
    for declared in fields(Settings):
        described = declared.metadata
        if described:
            section = described["section"] or section
            yield Setting(declared.name, described["kind"], described["default"], described["doc"], section)


#: All settings in the order of the fields; documentation and `--help` are generated from this table.
SETTINGS: tuple[Setting, ...] = tuple(_declared())


def _contradictions(s: Settings) -> Iterator[str]:
    protocol = f"{PREFIX}SECURITY_PROTOCOL={s.security_protocol}"
    if s.security_protocol.logs_in and not (s.sasl_username and s.sasl_password):
        yield f"{PREFIX}SASL_USERNAME and {PREFIX}SASL_PASSWORD: {protocol} needs both."
    if not s.security_protocol.logs_in and (s.sasl_username or s.sasl_password):
        yield f"{PREFIX}SASL_USERNAME, {PREFIX}SASL_PASSWORD: no effect with {protocol}; did you mean SASL_SSL?"
    if not s.security_protocol.encrypts and (s.ssl_cafile or s.ssl_certfile or s.ssl_keyfile):
        yield f"{PREFIX}SSL_*: no effect with {protocol}; did you mean SSL or SASL_SSL?"
    if (s.ssl_certfile is None) != (s.ssl_keyfile is None):
        yield f"{PREFIX}SSL_CERTFILE and {PREFIX}SSL_KEYFILE: set both or neither."
    if s.schema_registry_user and not s.schema_registry_url:
        yield f"{PREFIX}SCHEMA_REGISTRY_USER: no effect without {PREFIX}SCHEMA_REGISTRY_URL."
    try:
        s.catalogue(())
    except ConfigurationError as error:
        yield str(error)
