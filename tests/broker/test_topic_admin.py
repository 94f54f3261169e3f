"""Topics on a real broker: planned, applied and verified; what can't be done is said with what to do."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer

from processors.errors import ConfigurationError
from processors.errors import TopicMismatch as RefusedToStart
from processors.local.kafka import EmbeddedKafka
from processors.process.provisioning import apply_topics, plan_topics, verify_topics, wait_for_topics
from processors.settings.settings import Settings
from topics import admin
from topics.catalogue import Catalogue, Retention, Topic
from topics.changes import AddPartitions, AlterConfig, CreateTopic, Refused
from topics.cluster import Cluster
from topics.errors import BrokerUnusable, TopicsDiffer

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

SASL_USERS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'user_scraper="open sesame" user_admin="let me in";'
)


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listening(broker: int, controller: int, sasl: int) -> dict[str, str]:
    """Settings of a broker that lets everybody in at one port, and only known users, without rights, at another."""
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker},SASL://127.0.0.1:{sasl}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": SASL_USERS,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:admin",
    }


class Broker:
    """One broker with an open port and one that asks for a login."""

    def __init__(self, data_dir: Path) -> None:
        port, self.controller, self.sasl_port = free_ports(3)
        properties = listening(port, self.controller, self.sasl_port)
        self.kafka = EmbeddedKafka(data_dir, port=port, heap_mb=256, properties=properties, login=False)

    @property
    def settings(self) -> Settings:
        return Settings(bootstrap_servers=self.kafka.bootstrap_servers)

    def cluster(self) -> Cluster:
        return Cluster({"bootstrap.servers": self.kafka.bootstrap_servers})

    def login(self, user: str, password: str) -> Settings:
        return Settings.from_env(
            {
                "SCRAPESAGA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.sasl_port}",
                "SCRAPESAGA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "SCRAPESAGA_SASL_MECHANISM": "PLAIN",
                "SCRAPESAGA_SASL_USERNAME": user,
                "SCRAPESAGA_SASL_PASSWORD": password,
            }
        )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker shared by this module; each test has a prefix of its own."""
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    with broker.kafka:
        yield broker


@pytest.fixture
def catalogue() -> Catalogue:
    """A catalogue that no other test uses, of two steps."""
    return Catalogue(prefix=f"t{uuid.uuid4().hex[:8]}", partitions=4, steps=("fetch", "load"))


def with_(catalogue: Catalogue, **changed: object) -> Catalogue:
    given = {"prefix": catalogue.prefix, "partitions": catalogue.partitions, "steps": catalogue.steps}
    return Catalogue(**{**given, **changed})  # type: ignore[arg-type]  # the tests' own literals


def configure(cluster: Cluster, name: str, config: dict[str, str]) -> None:
    """Alter a topic as somebody else would, and wait until the broker says so."""
    cluster.configure(name, config)
    give_up = time.monotonic() + 20
    while not config.items() <= cluster.topics([name])[name].config.items():
        assert time.monotonic() < give_up, "the broker took over 20 s to show an altered configuration"
        time.sleep(0.02)


def test_topics_are_created_as_declared(broker: Broker, catalogue: Catalogue) -> None:
    """A fresh broker gets every topic; planned again, nothing is left to do; and a produce works at once."""
    cluster = broker.cluster()
    assert admin.plan(catalogue, cluster) == [CreateTopic(topic) for topic in catalogue]
    assert admin.apply(catalogue, cluster) == [CreateTopic(topic) for topic in catalogue]
    admin.verify(catalogue, cluster)
    assert admin.plan(catalogue, cluster) == []
    assert admin.apply(catalogue, cluster) == []
    actual = cluster.topics([topic.name for topic in catalogue])
    for topic in catalogue:
        assert (actual[topic.name].partitions, actual[topic.name].replication_factor) == (topic.partitions, 1)
        assert topic.config.items() <= actual[topic.name].config.items()


def test_the_limits_are_those_that_the_topic_declares(broker: Broker, catalogue: Catalogue) -> None:
    """A record of the largest page is taken, one over the limit is refused: the number means what it says."""
    admin.apply(catalogue, broker.cluster())
    producer = Producer({"bootstrap.servers": broker.kafka.bootstrap_servers, "message.max.bytes": 50_000_000})
    refused: list[KafkaError | None] = []
    for size in (catalogue.max_page_bytes, catalogue.pages.max_message_bytes + 1):
        producer.produce(catalogue.pages.name, b"x" * size, b"key", on_delivery=lambda error, _: refused.append(error))
        producer.flush(20)
    assert [error and error.name() for error in refused] == [None, "MSG_SIZE_TOO_LARGE"]


def test_only_what_differs_is_altered(broker: Broker, catalogue: Catalogue) -> None:
    """Another retention changes one value on one topic; what somebody else configured there stays."""
    cluster = broker.cluster()
    admin.apply(catalogue, cluster)
    configure(cluster, catalogue.events.name, {"compression.type": "zstd"})
    shorter = with_(catalogue, retention=Retention(events=timedelta(days=1)))
    (change,) = admin.apply(shorter, cluster)
    assert change == AlterConfig(shorter.events, {"retention.ms": "2592000000"})
    config = cluster.topics([catalogue.events.name])[catalogue.events.name].config
    assert (config["retention.ms"], config["compression.type"]) == ("86400000", "zstd")


def test_partitions_are_added_where_no_key_moves(broker: Broker, catalogue: Catalogue) -> None:
    """urls grows in place."""
    cluster = broker.cluster()
    few = Topic(**{**{name: getattr(catalogue.urls, name) for name in Topic.__slots__}, "partitions": 1})
    cluster.create([few])
    changed = admin.apply(catalogue, cluster)
    assert AddPartitions(catalogue.urls, 1) in changed
    assert cluster.topics([catalogue.urls.name])[catalogue.urls.name].partitions == 4


def test_nothing_is_changed_when_not_all_can_be(broker: Broker, catalogue: Catalogue) -> None:
    """Another partition count is refused before anything happens, and the message has the way out."""
    cluster = broker.cluster()
    admin.apply(catalogue, cluster)
    more = with_(catalogue, partitions=8, steps=("fetch", "load", "extra"))
    with pytest.raises(TopicsDiffer) as caught:
        admin.apply(more, cluster)
    message = str(caught.value)
    assert f"{catalogue.sagas.name} has 4 partitions, not 8." in message
    assert f"{more.commands('extra').name} is missing." in message
    assert "SCRAPESAGA_PARTITIONS=4" in message
    assert any(isinstance(change, Refused) for change in admin.plan(more, cluster))
    assert cluster.topics([more.commands("extra").name]) == {}
    assert cluster.topics([more.urls.name])[more.urls.name].partitions == 4


def test_verify_lists_each_difference_with_its_command(broker: Broker, catalogue: Catalogue) -> None:
    """Missing and changed topics are told at once, each with what mends it."""
    cluster = broker.cluster()
    admin.apply(catalogue, cluster)
    configure(cluster, catalogue.records.name, {"cleanup.policy": "delete"})
    with pytest.raises(TopicsDiffer) as caught:
        admin.verify(with_(catalogue, steps=("fetch", "load", "extra")), cluster)
    message = str(caught.value)
    assert f"- {catalogue.records.name}: cleanup.policy is delete, not compact." in message
    assert f"--alter --topic {catalogue.records.name} --add-config cleanup.policy=compact" in message
    assert f"--create --topic {catalogue.prefix}.extra.commands --partitions 4" in message
    assert "scrapesaga topics apply" in message
    assert catalogue.urls.name not in message


def test_two_may_apply_at_once(broker: Broker, catalogue: Catalogue) -> None:
    """Processes that start together all succeed, and the topics are as declared."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda cluster: admin.apply(catalogue, cluster), [broker.cluster() for _ in range(4)]))
    admin.verify(catalogue, broker.cluster())


def test_too_few_brokers_name_the_setting(broker: Broker, catalogue: Catalogue) -> None:
    """Three replicas on one broker can't be: the setting is named."""
    with pytest.raises(BrokerUnusable, match="SCRAPESAGA_REPLICATION_FACTOR"):
        admin.apply(with_(catalogue, replication_factor=3), broker.cluster())


def test_nobody_listening_names_the_servers() -> None:
    """An unreachable broker is given up after the time it has, and named with what to check."""
    (port,) = free_ports(1)
    began = time.monotonic()
    with pytest.raises(BrokerUnusable) as caught:
        admin.verify(Catalogue(), Cluster({"bootstrap.servers": f"127.0.0.1:{port}"}, within=timedelta(seconds=1)))
    assert time.monotonic() - began < 10
    assert f"Kafka at 127.0.0.1:{port} did not answer within 1 s" in str(caught.value)
    assert "SCRAPESAGA_BOOTSTRAP_SERVERS" in str(caught.value)


def test_a_refused_login_is_told_at_once(broker: Broker, catalogue: Catalogue) -> None:
    """A wrong password doesn't wait for a timeout; the message names the settings, never the password."""
    began = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        verify_topics(broker.login("scraper", "guessed wrong"), catalogue)
    assert time.monotonic() - began < 10
    assert "refuses the login" in str(caught.value)
    assert "SCRAPESAGA_SASL_PASSWORD" in str(caught.value)
    assert "guessed wrong" not in str(caught.value)


def test_a_missing_right_is_told_as_the_command_that_grants_it(broker: Broker, catalogue: Catalogue) -> None:
    """A user without rights learns which one is missing, on what, and for whom."""
    admin.apply(catalogue, broker.cluster())
    with pytest.raises(ConfigurationError) as caught:
        verify_topics(broker.login("scraper", "open sesame"), catalogue)
    message = str(caught.value)
    assert "does not allow Describe" in message
    assert "kafka-acls.sh" in message
    assert "--allow-principal 'User:scraper' --operation Describe" in message
    assert catalogue.prefix in message


def test_a_process_provisions_and_verifies_by_its_settings(broker: Broker, catalogue: Catalogue) -> None:
    """With settings, the same steps as with a cluster: refused while topics are missing, fine once applied."""
    settings = broker.login("admin", "let me in")
    with pytest.raises(RefusedToStart, match=f"{catalogue.sagas.name} is missing"):
        verify_topics(settings, catalogue)
    assert len(plan_topics(settings, catalogue)) == len(catalogue)
    assert len(apply_topics(settings, catalogue)) == len(catalogue)
    verify_topics(settings, catalogue)


def test_waiting_ends_when_somebody_made_the_topics(broker: Broker, catalogue: Catalogue) -> None:
    """Who waits is told why once, and goes on as soon as the topics are there; patience that ends is a mismatch."""
    settings = broker.login("admin", "let me in")
    told: list[str] = []

    def make(why: str) -> None:
        told.append(why)
        apply_topics(settings, catalogue)

    wait_for_topics(settings, catalogue, timedelta(seconds=60), make)
    assert len(told) == 1 and f"{catalogue.sagas.name} is missing" in told[0]
    with pytest.raises(RefusedToStart, match="has 4 partitions, not 8"):
        wait_for_topics(settings, with_(catalogue, partitions=8), timedelta(milliseconds=1), told.append)


@contextmanager
def second_broker(first: Broker, data_dir: Path) -> Iterator[EmbeddedKafka]:
    """Another broker of the same cluster, led by the first one's controller."""
    cluster_id = (first.kafka.log_path.parent / "cluster-id").read_text()
    (port,) = free_ports(1)
    logs = data_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "meta.properties").write_text(f"version=1\nnode.id=2\ncluster.id={cluster_id}\n")
    (data_dir / "cluster-id").write_text(cluster_id)
    properties = {
        "process.roles": "broker",
        "node.id": "2",
        "listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{first.controller}",
    }
    with EmbeddedKafka(data_dir, port=port, heap_mb=256, properties=properties, login=False) as kafka:
        yield kafka


def test_every_broker_knows_complete_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two brokers an applied topic is known to both and in sync on both; with one of them gone, that is told."""
    first = Broker(tmp_path / "1")
    catalogue = Catalogue(replication_factor=2, partitions=2, steps=())
    with first.kafka:
        with second_broker(first, tmp_path / "2") as second:
            admin.apply(catalogue, first.cluster())
            for server in (first.kafka.bootstrap_servers, second.bootstrap_servers):
                cluster = Cluster({"bootstrap.servers": server})
                admin.verify(catalogue, cluster)
                assert cluster.is_settled(list(catalogue))
            actual = first.cluster().topics([catalogue.events.name])[catalogue.events.name]
            assert (actual.replication_factor, actual.config["min.insync.replicas"]) == (2, "2")
        monkeypatch.setattr(admin, "_SETTLED_WITHIN", timedelta(seconds=1))
        with pytest.raises(BrokerUnusable, match="lacks a leader or a replica in sync"):
            admin.apply(catalogue, first.cluster())
