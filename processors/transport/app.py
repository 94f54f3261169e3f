"""Faust apps with settings that lose no record: the wrong defaults of Faust are corrected here."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import faust
from faust.types import TopicT
from faust.types.auth import CredentialsT
from faust.types.transports import TransportT
from mode import CrashingSupervisor

from processors.errors import ConfigurationError
from processors.kafka.credentials import Security
from processors.transport.consumer import FastTransport, Limits
from processors.transport.health import alive, ready
from processors.transport.run import run_apps, serve

__all__ = [
    "StreamApp",
    "alive",
    "create_faust_app",
    "faust_credentials",
    "raw_topic",
    "ready",
    "run_apps",
    "serve",
]

# At info they log every step of every start, stop and rebalance of every service.
_TALKATIVE = ("aiokafka", "faust", "mode")


class StreamApp(faust.App):
    """A Faust app on the consumer of consumer.py."""

    logger = logging.getLogger("faust.app")
    mundane_level = "debug"

    def __init__(self, id: str, *, limits: Limits, **options: Any) -> None:
        self._limits = limits
        super().__init__(id, **options)

    def _new_transport(self) -> TransportT:
        return FastTransport(self.conf.broker_consumer, self, limits=self._limits)


def create_faust_app(
    id: str,
    *,
    bootstrap_servers: str,
    security: Security | None = None,
    store: str = "memory://",
    data_dir: Path,
    client_id: str = "scrapesaga",
    session_timeout: timedelta = timedelta(seconds=15),
    heartbeat: timedelta = timedelta(seconds=3),
    rebalance_timeout: timedelta = timedelta(seconds=30),
    commit_interval: timedelta = timedelta(milliseconds=500),
    settle: timedelta = timedelta(seconds=5),
    max_undone: int = 10_000,
    max_record_bytes: int = 1_048_576,
    table_standby_replicas: int = 0,
) -> StreamApp:
    """Make the app of one role; `id` is its consumer group.

    `settle` is how long records in flight may take to finish when their partition is revoked or the app stops.
    `max_undone` is how many records of a topic may be fetched and not acknowledged before fetching pauses.
    """
    if not heartbeat * 2 < session_timeout <= rebalance_timeout:
        raise ConfigurationError(
            f"Heartbeat {heartbeat}, session timeout {session_timeout}, rebalance timeout {rebalance_timeout}: "
            "a session must outlast two heartbeats, and a rebalance must outlast a session."
        )
    if settle >= rebalance_timeout:
        raise ConfigurationError(
            f"Settling ({settle}) must be shorter than a rebalance may take ({rebalance_timeout})."
        )
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    return StreamApp(
        id,
        limits=Limits(max_undone, settle),
        broker=";".join(f"kafka://{server.strip()}" for server in bootstrap_servers.split(",")),
        broker_credentials=faust_credentials(security or Security()),
        broker_client_id=client_id,
        broker_session_timeout=session_timeout.total_seconds(),
        broker_heartbeat_interval=heartbeat.total_seconds(),
        broker_rebalance_timeout=rebalance_timeout.total_seconds(),
        broker_request_timeout=max(40.0, session_timeout.total_seconds()),
        broker_commit_interval=commit_interval.total_seconds(),
        # Commit by time only: by count, Faust commits in the middle of a batch.
        broker_commit_every=2**31,
        consumer_auto_offset_reset="earliest",
        # A fetch must have room for the largest record; otherwise its partition stops.
        consumer_max_fetch_size=max(1_048_576, 2 * max_record_bytes),
        producer_linger=0,
        producer_acks=-1,
        processing_guarantee="at_least_once",
        # A failed agent must end the process: Faust's default restarts it and commits past the record.
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=True,
        stream_recovery_delay=0,
        cython_optimizations=True,
        key_serializer="raw",
        value_serializer="raw",
        store=store,
        datadir=data_dir,
        table_standby_replicas=table_standby_replicas,
        # Topics are provisioned: a topic that Faust creates has a wrong number of partitions.
        topic_allow_declare=False,
        topic_disable_leader=True,
        # Faust's web server listens on every interface, and always answers "OK".
        web_enabled=False,
        autodiscover=False,
    )


def faust_credentials(security: Security) -> CredentialsT | None:
    """The value of Faust's `broker_credentials`."""
    context = security.tls_context()
    if security.sasl:
        return faust.SASLCredentials(
            username=security.username, password=security.password, mechanism=security.mechanism, ssl_context=context
        )
    return faust.SSLCredentials(context=context) if security.tls else None


def raw_topic(app: faust.App, name: str) -> TopicT:
    """The topic with raw bytes: decoding happens where a bad record can go to the dead-letter topic."""
    return app.topic(
        name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
    )
