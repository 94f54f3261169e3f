"""A Kafka cluster as its administrator sees it; failures are said in the words of an operator."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from datetime import timedelta
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs forget to re-export them
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from topics.catalogue import Topic
from topics.changes import ActualTopic
from topics.errors import BrokerUnusable

# Waiting cannot mend these: the broker is there and said no.
_FINAL = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_NOT_ALLOWED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_SILENT = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError.REQUEST_TIMED_OUT)
_POLL_S = 0.05


class Cluster:
    """A connection to a Kafka cluster, by librdkafka's client settings; every call is bounded by `within`.

    Its methods raise BrokerUnusable, which names the servers and what to check.
    """

    def __init__(self, client: Mapping[str, str], *, within: timedelta = timedelta(seconds=20)) -> None:
        self.bootstrap_servers = client["bootstrap.servers"]
        self._client = dict(client)
        self._within = within
        self._complaints: deque[KafkaError] = deque(maxlen=16)
        # librdkafka repeats every refused connection on stderr; what matters of it is in our own error.
        timeout_ms = str(int(within.total_seconds() * 1000))
        self._admin = AdminClient(
            {
                "log_level": 2,
                "socket.timeout.ms": timeout_ms,
                **client,
                "error_cb": self._complaints.append,  # type: ignore[dict-item]  # its stubs don't know callbacks
            }
        )

    def topics(self, names: Sequence[str]) -> dict[str, ActualTopic]:
        """Return those of the named topics that exist."""
        described = self._describe(names)
        if not described:
            return {}
        asked = self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in described])
        configs = {of.name: self._done(future, "DescribeConfigs", of.name) for of, future in asked.items()}
        return {
            name: ActualTopic(
                name=name,
                partitions=len(topic.partitions),
                replication_factor=min(len(partition.replicas) for partition in topic.partitions),
                config={key: entry.value or "" for key, entry in configs[name].items()},
            )
            for name, topic in described.items()
        }

    def create(self, topics: Sequence[Topic]) -> None:
        """Create topics, unless somebody else just did; it may take a moment until all brokers know them."""
        if not topics:
            return
        new = [NewTopic(t.name, t.partitions, t.replication_factor, config=dict(t.config)) for t in topics]
        for name, future in self._admin.create_topics(new).items():
            self._done(future, "Create", name, fine=KafkaError.TOPIC_ALREADY_EXISTS)

    def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Set these values of a topic's configuration, and leave the others as they are."""
        to_set = AlterConfigOpType.SET
        entries = [ConfigEntry(key, value, incremental_operation=to_set) for key, value in config.items()]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        (altered,) = self._admin.incremental_alter_configs([resource]).values()
        self._done(altered, "AlterConfigs", name)

    def grow(self, name: str, partitions: int) -> None:
        """Add partitions until there are so many, unless there are."""
        grown = self._admin.create_partitions([NewPartitions(name, partitions)])[name]
        self._done(grown, "Alter", name, fine=KafkaError.INVALID_PARTITIONS)

    def is_settled(self, topics: Sequence[Topic]) -> bool:
        """Whether every broker knows these topics, with all partitions led and all replicas in sync."""
        described = self._describe([topic.name for topic in topics])
        partitions = [partition for topic in described.values() for partition in topic.partitions]
        led = all(p.leader is not None and len(p.isr) == len(p.replicas) for p in partitions)
        if len(described) < len(topics) or not led:
            return False
        nodes = self._done(self._admin.describe_cluster(), "Describe", "cluster").nodes
        return all(self._are_known(topics, f"{node.host}:{node.port}") for node in nodes)

    def _are_known(self, topics: Sequence[Topic], server: str) -> bool:
        # A new client knows only this broker, so it is this one that answers.
        client = AdminClient({"log_level": 2, **self._client, "bootstrap.servers": server})
        try:
            known = client.list_topics(timeout=self._within.total_seconds()).topics
        except KafkaException as error:
            raise self._unusable(error.args[0], "Describe", server) from error
        return all(topic.name in known and len(known[topic.name].partitions) >= topic.partitions for topic in topics)

    def _describe(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        asked = self._admin.describe_topics(TopicCollection(list(names)))
        missing = KafkaError.UNKNOWN_TOPIC_OR_PART
        results = {name: self._done(future, "Describe", name, fine=missing) for name, future in asked.items()}
        return {name: topic for name, topic in results.items() if topic is not None}

    def _done(self, future: Future[Any], operation: str, name: str, *, fine: int | None = None) -> Any:
        """Wait for a request about a topic; None if it failed in the way that is fine."""
        give_up = time.monotonic() + self._within.total_seconds()
        while True:
            try:
                return future.result(_POLL_S)
            except NotYet:
                self._admin.poll(0)
                final = next((complaint for complaint in self._complaints if complaint.code() in _FINAL), None)
                if final is not None or time.monotonic() > give_up:
                    raise self._unusable(final, operation, name) from None
            except KafkaException as error:
                if error.args[0].code() == fine:
                    return None
                self._admin.poll(0)
                raise self._unusable(error.args[0], operation, name) from error

    def _unusable(self, error: KafkaError | None, operation: str, name: str) -> BrokerUnusable:
        where = f"Kafka at {self.bootstrap_servers}"
        code = error.code() if error is not None else KafkaError._TIMED_OUT
        said = error.str() if error is not None else ""
        if code == KafkaError._AUTHENTICATION:
            return BrokerUnusable(
                f"{where} refuses the login ({said}). "
                "Check SCRAPESAGA_SASL_USERNAME, SCRAPESAGA_SASL_PASSWORD and SCRAPESAGA_SASL_MECHANISM."
            )
        if code == KafkaError._SSL:
            return BrokerUnusable(
                f"{where}: no TLS connection ({said}). "
                "Check SCRAPESAGA_SSL_CAFILE, SCRAPESAGA_SSL_CERTFILE and SCRAPESAGA_SECURITY_PROTOCOL."
            )
        if code in _NOT_ALLOWED:
            user = self._client.get("sasl.username", "<this client's principal>")
            return BrokerUnusable(
                f"{where} does not allow {operation} on {name}. An administrator can: "
                f"kafka-acls.sh --bootstrap-server {self.bootstrap_servers} --add --allow-principal 'User:{user}' "
                f"--operation {operation} --topic {name}"
            )
        if code == KafkaError.INVALID_REPLICATION_FACTOR:
            return BrokerUnusable(
                f"{where} has too few brokers for {name} ({said}). "
                "Set SCRAPESAGA_REPLICATION_FACTOR to at most the number of brokers."
            )
        if code in _SILENT:
            heard = [c.str() for c in self._complaints if c.code() != KafkaError._ALL_BROKERS_DOWN]
            return BrokerUnusable(
                f"{where} did not answer within {self._within.total_seconds():g} s ({heard[-1] if heard else said}). "
                "Check SCRAPESAGA_BOOTSTRAP_SERVERS and SCRAPESAGA_SECURITY_PROTOCOL, and that a broker listens there."
            )
        return BrokerUnusable(f"{where} refused {operation} on {name}: {said}.")
