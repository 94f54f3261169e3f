"""The catalogue's promises, and what it takes to bring a broker's topics to it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import codec
from topics.catalogue import Catalogue, Partitioning, Retention, Topic
from topics.changes import ActualTopic, AddPartitions, AlterConfig, CreateTopic, Refused, changes, explain, mend
from topics.errors import BadCatalogue, UnknownTopic
from topics.export import describe, strimzi, table

CATALOGUE = Catalogue()
DOCS = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()


def as_declared(topic: Topic) -> ActualTopic:
    """Return the topic as a broker has it that was given the declaration, among defaults of its own."""
    broker = {"compression.type": "producer", "unclean.leader.election.enable": "false"}
    return ActualTopic(topic.name, topic.partitions, topic.replication_factor, {**broker, **topic.config})


def broker_with(catalogue: Catalogue, *different: ActualTopic) -> dict[str, ActualTopic]:
    return {**{topic.name: as_declared(topic) for topic in catalogue}, **{topic.name: topic for topic in different}}


def test_the_topics_and_their_order_are_stable() -> None:
    """Iteration gives every topic once, in the order in which a saga meets them."""
    assert [topic.name for topic in Catalogue(steps=("fetch", "load"))] == [
        "scrape.urls",
        "scrape.events",
        "scrape.sagas",
        "scrape.plans",
        "scrape.fetch.commands",
        "scrape.fetch.results",
        "scrape.load.commands",
        "scrape.load.results",
        "scrape.pages",
        "scrape.records",
        "scrape.spend",
        "scrape.dead-letters",
    ]


def test_lookups_find_what_iteration_gives() -> None:
    """Each topic is found by its short name, and the engine's own by attribute."""
    c = Catalogue(prefix="acme.scrape")
    named = [c.urls, c.events, c.sagas, c.plans, c.pages, c.records, c.spend, c.dead_letters]
    of_steps = [lookup(step) for step in c.steps for lookup in (c.commands, c.results)]
    assert {topic.name for topic in named + of_steps} == {topic.name for topic in c}
    assert all(c.topic(topic.short_name) is topic for topic in c)
    assert c.commands("fetch").name == "acme.scrape.fetch.commands"


def test_an_unknown_topic_names_the_known_ones() -> None:
    """A lookup of a topic that isn't declared says which are."""
    with pytest.raises(UnknownTopic, match=r"'nope\.commands'.*fetch\.commands"):
        CATALOGUE.commands("nope")


def test_everything_keyed_has_the_same_number_of_partitions() -> None:
    """A job's events, commands and state share a partition number, so their topics share the count."""
    catalogue = Catalogue(partitions=12)
    assert {t.partitions for t in catalogue if t.partitioning is Partitioning.BY_KEY} == {12}
    assert {t.short_name for t in catalogue if t.partitions == 1} == {"plans", "spend"}
    keyed_by_job = [t for t in catalogue if t.key.startswith("job_id") and t.short_name != "spend"]
    assert {t.partitioning for t in keyed_by_job} == {Partitioning.BY_KEY}


def test_the_broker_stamps_the_time_of_everything() -> None:
    """No producer's clock decides when a record expires or what time the coordinator thinks it is."""
    assert {t.config["message.timestamp.type"] for t in CATALOGUE} == {"LogAppendTime"}


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "2"), (3, "2"), (5, "2")])
def test_an_acknowledged_record_is_on_two_brokers_where_there_are_two(replicas: int, in_sync: str) -> None:
    """min.insync.replicas is 2, or 1 on a single broker."""
    assert {t.config["min.insync.replicas"] for t in Catalogue(replication_factor=replicas)} == {in_sync}


def test_state_is_compacted_after_its_history_and_the_rest_expires() -> None:
    """Compacted topics hold history and tombstones for as long as told; the others expire as told."""
    keep = Retention(
        urls=timedelta(days=1),
        commands=timedelta(days=2),
        events=timedelta(days=3),
        results=timedelta(days=4),
        pages=timedelta(days=5),
        dead_letters=timedelta(days=6),
        history=timedelta(hours=7),
        tombstones=timedelta(hours=8),
    )
    c = Catalogue(retention=keep)
    expiring = [c.urls, c.commands("load"), c.events, c.results("load"), c.pages, c.dead_letters]
    assert [t.retention for t in expiring] == [timedelta(days=n) for n in range(1, 7)]
    assert {t.short_name: t.cleanup_policy for t in c if t.cleanup_policy != "delete"} == {
        "sagas": "compact",
        "plans": "compact",
        "pages": "compact,delete",
        "records": "compact",
        "spend": "compact",
    }
    for topic in (t for t in c if "compact" in t.cleanup_policy):
        assert topic.config["min.compaction.lag.ms"] == str(7 * 3_600_000)
        assert topic.config["delete.retention.ms"] == str(8 * 3_600_000)
        # Only closed segments are compacted.
        assert int(topic.config["segment.ms"]) <= 86_400_000
    assert c.sagas.retention is None


def test_a_page_and_its_dead_letter_fit() -> None:
    """Pages and dead letters take the largest page with headers; a state takes more than one event."""
    c = Catalogue(max_page_bytes=20_000_000)
    assert min(c.pages.max_message_bytes, c.dead_letters.max_message_bytes) > 20_000_000
    assert c.sagas.max_message_bytes > c.events.max_message_bytes
    assert c.dead_letters.max_message_bytes >= max(t.max_message_bytes for t in c)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prefix": ""}, "Prefix ''"),
        ({"prefix": "a b"}, "Prefix 'a b'"),
        ({"prefix": "x" * 101}, "Prefix"),
        ({"steps": ("a.b",)}, "Step 'a.b'"),
        ({"steps": ("Fetch",)}, "Step 'Fetch'"),
        ({"steps": ("a", "b", "a")}, "named twice: a"),
        ({"partitions": 0}, "partitions must be at least 1"),
        ({"replication_factor": 0}, "replication_factor must be at least 1"),
    ],
)
def test_what_no_broker_would_take_is_refused_at_once(wrong: dict[str, Any], said: str) -> None:
    """A bad prefix, step name or number stops before Kafka is asked, by name."""
    with pytest.raises(BadCatalogue, match=re.escape(said)):
        replace(CATALOGUE, **wrong)


@given(
    prefix=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True),
    steps=st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True), unique=True, max_size=6),
)
def test_names_are_legal_and_unique_whatever_the_steps_are_called(prefix: str, steps: list[str]) -> None:
    """No step can take the name of another topic, nor a name that Kafka or Kubernetes refuses."""
    catalogue = Catalogue(prefix=prefix, steps=tuple(steps))
    names = [topic.name for topic in catalogue]
    assert len(set(names)) == len(names) == 8 + 2 * len(steps)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) for name in names)
    resources = [manifest["metadata"]["name"] for manifest in strimzi(catalogue, cluster="k")]
    label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    assert all(re.fullmatch(rf"{label}(\.{label})*", name) and len(name) <= 253 for name in resources)
    assert len(set(resources)) == len(resources)


def test_nothing_changes_on_a_broker_that_has_it_all() -> None:
    """Topics as declared need no change, whatever else the broker has configured or holds."""
    foreign = ActualTopic("payments", 3, 1, {})
    assert changes(CATALOGUE, broker_with(CATALOGUE, foreign)) == []


def test_values_that_mean_the_same_are_the_same() -> None:
    """Order in a list, spaces and the way a number is written are no difference."""
    config = {**CATALOGUE.pages.config, "cleanup.policy": "delete, compact", "min.cleanable.dirty.ratio": "0.20"}
    pages = replace(as_declared(CATALOGUE.pages), config=config)
    assert changes(CATALOGUE, broker_with(CATALOGUE, pages)) == []


def test_missing_topics_are_created() -> None:
    """An empty broker needs every topic, in the catalogue's order."""
    assert changes(CATALOGUE, {}) == [CreateTopic(topic) for topic in CATALOGUE]


def test_only_what_differs_is_configured() -> None:
    """A changed value is set back; an extra one isn't mentioned; one that the broker doesn't name is set."""
    config = {**CATALOGUE.events.config, "retention.ms": "1", "compression.type": "zstd"}
    del config["max.message.bytes"]
    events = replace(as_declared(CATALOGUE.events), config=config)
    (change,) = changes(CATALOGUE, broker_with(CATALOGUE, events))
    assert change == AlterConfig(CATALOGUE.events, {"retention.ms": "1", "max.message.bytes": ""})
    assert explain(change) == (
        "scrape.events: retention.ms is 1, not 2592000000; max.message.bytes is not set, not 1048576"
    )


def test_partitions_are_added_only_where_no_key_moves() -> None:
    """urls and dead-letters grow; more than declared is fine there."""
    few = replace(as_declared(CATALOGUE.urls), partitions=2)
    many = replace(as_declared(CATALOGUE.dead_letters), partitions=64)
    assert changes(CATALOGUE, broker_with(CATALOGUE, few, many)) == [AddPartitions(CATALOGUE.urls, 2)]


@pytest.mark.parametrize("partitions", [1, 7, 9, 64])
@pytest.mark.parametrize(
    "topic", [t for t in CATALOGUE if t.partitioning is Partitioning.BY_KEY], ids=lambda topic: topic.short_name
)
def test_a_keyed_topic_with_another_count_is_refused(topic: Topic, partitions: int) -> None:
    """Adding partitions would move keys and split sagas: the way out is named instead."""
    (change,) = changes(CATALOGUE, broker_with(CATALOGUE, replace(as_declared(topic), partitions=partitions)))
    assert isinstance(change, Refused)
    assert explain(change) == f"{topic.name} has {partitions} partitions, not 8"
    assert f"SCRAPESAGA_PARTITIONS={partitions}" in mend(change, "kafka:9092")


def test_a_topic_read_in_one_order_has_one_partition() -> None:
    """No setting changes that for plans and spend, so none is suggested."""
    (change,) = changes(CATALOGUE, broker_with(CATALOGUE, replace(as_declared(CATALOGUE.spend), partitions=2)))
    assert isinstance(change, Refused)
    assert "SCRAPESAGA_PARTITIONS" not in mend(change, "kafka:9092")


def test_fewer_replicas_than_declared_are_refused_and_more_are_welcome() -> None:
    """A topic that could lose acknowledged records is not accepted in silence."""
    catalogue = Catalogue(replication_factor=3)
    few = replace(as_declared(catalogue.sagas), replication_factor=1)
    many = replace(as_declared(catalogue.events), replication_factor=5)
    (change,) = changes(catalogue, broker_with(catalogue, few, many))
    assert isinstance(change, Refused)
    assert "SCRAPESAGA_REPLICATION_FACTOR=1" in mend(change, "kafka:9092")


def test_a_difference_comes_with_the_command_that_mends_it() -> None:
    """Commands of Kafka's own tools are complete, and a list is in brackets as they want it."""
    pages = CATALOGUE.pages
    altered = mend(AlterConfig(pages, {"cleanup.policy": "delete", "retention.ms": "1"}), "kafka:9092")
    assert altered == (
        "kafka-configs.sh --bootstrap-server kafka:9092 --alter --topic scrape.pages "
        "--add-config 'cleanup.policy=[compact,delete],retention.ms=2592000000'"
    )
    assert mend(AddPartitions(CATALOGUE.urls, 2), "kafka:9092").endswith("--topic scrape.urls --partitions 8")
    created = mend(CreateTopic(pages), "kafka:9092")
    assert "--create --topic scrape.pages --partitions 8 --replication-factor 1" in created
    assert all(f"{key}={value}" in created for key, value in pages.config.items())


def test_strimzi_manifests_declare_the_same_topics() -> None:
    """Each topic is a KafkaTopic with its real name, count, replicas and configuration."""
    catalogue = Catalogue(prefix="My_Scrape", replication_factor=3)
    manifests = strimzi(catalogue, cluster="main", namespace="kafka")
    assert [m["spec"] for m in manifests] == [
        {"topicName": t.name, "partitions": t.partitions, "replicas": 3, "config": dict(t.config)} for t in catalogue
    ]
    assert {m["metadata"]["labels"]["strimzi.io/cluster"] for m in manifests} == {"main"}
    assert {m["metadata"]["namespace"] for m in manifests} == {"kafka"}
    assert {m["apiVersion"] for m in strimzi(catalogue, cluster="c", api_version="kafka.strimzi.io/v1beta2")} == {
        "kafka.strimzi.io/v1beta2"
    }


def test_the_description_survives_json() -> None:
    """What `describe` returns is JSON, whole."""
    described = describe(CATALOGUE)
    assert json.loads(json.dumps(described)) == described
    assert [topic["name"] for topic in described["topics"]] == [topic.name for topic in CATALOGUE]


def test_the_documentation_has_the_topics_as_they_are() -> None:
    """The table in docs/topics.md is the catalogue's own; `topics.export.table(Catalogue())` makes it anew."""
    assert table(CATALOGUE) in DOCS
    assert table(CATALOGUE).count("\n") == len(CATALOGUE) + 2 - 2 * (len(CATALOGUE.steps) - 1)


def test_the_documented_bytes_are_those_of_the_wire() -> None:
    """The worked example in docs/topics.md is what the codec writes, byte by byte."""
    rows = re.findall(r"^\| `([0-9a-f ]+)` \|", DOCS, re.MULTILINE)
    request = {"url": "https://example.com/", "pipeline": None, "job_id": "abc-123", "payload": None, "label": None}
    assert bytes.fromhex("".join(rows)) == codec("scrape_request").encode(request)


def test_the_documentation_names_only_topics_that_exist() -> None:
    """Every topic that docs/topics.md names is declared."""
    named = set(re.findall(r"`(scrape\.[a-z.-]+[a-z])`", DOCS))
    assert named
    assert named <= {topic.name for topic in CATALOGUE}
