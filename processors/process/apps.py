"""The Faust app of one role, made from the settings."""

from __future__ import annotations

from processors.errors import ConfigurationError
from processors.kafka.credentials import kafka_security
from processors.kafka.producer import Producer
from processors.settings.settings import Settings
from processors.transport.app import StreamApp, create_faust_app
from topics.catalogue import Catalogue


def group_of(settings: Settings, role: str) -> str:
    """Return a role's consumer group."""
    return f"{settings.topic_prefix}.{role.replace(':', '.')}"


def role_app(settings: Settings, role: str, *, standbys: bool = False) -> StreamApp:
    """Return the app of a role, by its part of the group's name: "intake", "coordinator" or "step:<name>"."""
    folder = settings.data_dir / role.replace(":", "-")
    # Faust makes the last folder only.
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"SCRAPESAGA_DATA_DIR: {folder} can't be created: {error.strerror}.") from error
    return create_faust_app(
        group_of(settings, role),
        bootstrap_servers=settings.bootstrap_servers,
        security=kafka_security(settings),
        store=f"{settings.store.value}://",
        data_dir=folder,
        client_id=f"scrapesaga-{role.replace(':', '-')}",
        session_timeout=settings.session_timeout,
        heartbeat=settings.session_timeout / 4,
        rebalance_timeout=max(settings.session_timeout, settings.drain_timeout * 2),
        commit_interval=settings.commit_interval,
        settle=settings.drain_timeout,
        table_standby_replicas=settings.standby_replicas if standbys else 0,
    )


def new_producer(settings: Settings, client_id: str, catalogue: Catalogue) -> Producer:
    """Return a producer that waits for every acknowledgement, and knows the limit of each topic."""
    return Producer(
        settings.bootstrap_servers,
        kafka_security(settings),
        client_id=client_id,
        max_record_bytes=settings.max_page_size + 1_048_576,
        limits={topic.name: topic.max_record_bytes for topic in catalogue},
    )
