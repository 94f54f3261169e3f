"""The catalogue in the words of others: JSON for programs, KafkaTopic manifests for Strimzi, a table for people."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any

from topics.catalogue import Catalogue, Topic


def describe(catalogue: Catalogue) -> dict[str, Any]:
    """Return the catalogue as JSON can say it; the configuration is as Kafka's, all strings."""
    return {
        "prefix": catalogue.prefix,
        "steps": list(catalogue.steps),
        "topics": [
            {
                "short_name": topic.short_name,
                "name": topic.name,
                "doc": topic.doc,
                "key": topic.key,
                "value": topic.value,
                "partitions": topic.partitions,
                "partitioning": str(topic.partitioning),
                "replication_factor": topic.replication_factor,
                "config": dict(topic.config),
            }
            for topic in catalogue
        ],
    }


def strimzi(
    catalogue: Catalogue, *, cluster: str, namespace: str = "", api_version: str = "kafka.strimzi.io/v1"
) -> list[dict[str, Any]]:
    """Return one KafkaTopic manifest a topic, for the Strimzi cluster of that name.

    Strimzi before 0.49 needs `api_version="kafka.strimzi.io/v1beta2"`, which 1.0 no longer takes.
    """
    return [
        {
            "apiVersion": api_version,
            "kind": "KafkaTopic",
            "metadata": {
                "name": _resource_name(topic.name),
                **({"namespace": namespace} if namespace else {}),
                "labels": {"strimzi.io/cluster": cluster},
            },
            "spec": {
                "topicName": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "config": dict(topic.config),
            },
        }
        for topic in catalogue
    ]


def table(catalogue: Catalogue) -> str:
    """Return the catalogue as a Markdown table, one row a topic, with the steps' topics as `<step>`."""
    head = ["| topic | partitions | key | value | kept | largest | what it is |", "|---|---|---|---|---|---|---|"]
    rows = []
    for topic in catalogue:
        row = (
            f"| `{topic.name}` | {topic.partitions} | {topic.key} | {topic.value} | {_kept(topic)} "
            f"| {topic.max_message_bytes / 1024**2:g} MiB | {topic.doc} |"
        )
        for step in catalogue.steps:
            row = row.replace(f".{step}.", ".<step>.").replace(f"the step {step}", "the step")
        if row not in rows:
            rows.append(row)
    return "\n".join([*head, *rows]) + "\n"


def _kept(topic: Topic) -> str:
    compacted = ""
    if "compact" in topic.cleanup_policy:
        compacted = f"last of each key, all for {int(topic.config['min.compaction.lag.ms']) / 86_400_000:g} days"
    expires = "" if topic.retention is None else f"{topic.retention / timedelta(days=1):g} days"
    return "; ".join(filter(None, (compacted, expires)))


def _resource_name(topic: str) -> str:
    """Return a name that Kubernetes takes, unlike Kafka without capitals and underscores, and still one of a kind."""
    name = re.sub(r"[^a-z0-9]*\.[^a-z0-9]*", ".", re.sub(r"[^a-z0-9.-]", "-", topic.lower())).strip("-.")
    return name if name == topic else f"{name}-{hashlib.sha256(topic.encode()).hexdigest()[:8]}"
