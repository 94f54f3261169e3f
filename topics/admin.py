"""Creates the catalogue's topics on a broker: plan, apply, verify. Safe to repeat, also by two processes at once.

It never deletes a topic, and never changes a topic that the catalogue doesn't declare.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

from topics.catalogue import Catalogue
from topics.changes import AddPartitions, AlterConfig, Change, CreateTopic, Refused, changes, explain, mend
from topics.cluster import Cluster
from topics.errors import BrokerUnusable, TopicsDiffer

# A new topic is there within milliseconds on one broker, and within a second or two in a busy cluster.
_SETTLED_WITHIN = timedelta(seconds=30)
_POLL_S = 0.05


def plan(catalogue: Catalogue, cluster: Cluster) -> list[Change]:
    """Return what differs from the catalogue, without changing anything. Raises BrokerUnusable."""
    return changes(catalogue, cluster.topics([topic.name for topic in catalogue]))


def apply(catalogue: Catalogue, cluster: Cluster) -> list[Change]:
    """Make the broker's topics those of the catalogue; return what was changed, once it holds on every broker.

    Raises TopicsDiffer before anything is changed if some difference can't be mended in place, or if the topics are
    not as declared in the end; and BrokerUnusable.
    """
    changed: list[Change] = []
    give_up = time.monotonic() + _SETTLED_WITHIN.total_seconds()
    # Repeat until nothing differs: a change is not visible at once, and another process may change topics too.
    while differences := plan(catalogue, cluster):
        if any(isinstance(change, Refused) for change in differences):
            so_far = "Only a part" if changed else "Nothing"
            raise _mismatch(
                differences, cluster, f"{so_far} was changed, because some differences can't be corrected in place"
            )
        if time.monotonic() > give_up:
            raise _mismatch(differences, cluster, f"After {_SETTLED_WITHIN.seconds} s the topics are not as declared")
        _change(differences, cluster)
        changed.extend(change for change in differences if change not in changed)
        time.sleep(_POLL_S)
    while not cluster.is_settled(list(catalogue)):
        if time.monotonic() > give_up:
            raise BrokerUnusable(
                f"Kafka at {cluster.bootstrap_servers} has the topics, but after {_SETTLED_WITHIN.seconds} s some "
                "partition lacks a leader or a replica in sync. Is a broker down? See kafka-topics.sh --describe."
            )
        time.sleep(_POLL_S)
    return changed


def verify(catalogue: Catalogue, cluster: Cluster) -> None:
    """Raise TopicsDiffer that lists every difference from the catalogue and what mends it; or BrokerUnusable."""
    differences = plan(catalogue, cluster)
    if differences:
        raise _mismatch(differences, cluster, "The topics are not as declared")


def _change(differences: Sequence[Change], cluster: Cluster) -> None:
    cluster.create([change.topic for change in differences if isinstance(change, CreateTopic)])
    for change in differences:
        match change:
            case AlterConfig(topic, actual):
                cluster.configure(topic.name, {key: topic.config[key] for key in actual})
            case AddPartitions(topic):
                cluster.grow(topic.name, topic.partitions)
            case CreateTopic() | Refused():
                continue
            case _:
                assert_never(change)


def _mismatch(differences: Sequence[Change], cluster: Cluster, what: str) -> TopicsDiffer:
    servers = cluster.bootstrap_servers
    problems = [f"- {explain(change)}." for change in differences]
    # A wrong number of partitions is one mistake, and shows on every topic.
    mends = dict.fromkeys(f"  {mend(change, servers)}" for change in differences)
    refused = any(isinstance(change, Refused) for change in differences)
    how = "To correct this:" if refused else "To correct this, run `scrapesaga topics apply`, or use Kafka's own tools:"
    return TopicsDiffer("\n".join([f"{what}, on Kafka at {servers}:", *problems, how, *mends]))
