"""Settings meet the broker: topics are provisioned, or a process that finds them wrong refuses to start.

The package `topics` knows no setting, so its errors become ConfigurationError and TopicMismatch here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from processors.errors import ConfigurationError, TopicMismatch
from processors.kafka.credentials import kafka_client
from processors.saga.plan import Plan
from processors.settings.settings import Settings
from topics import admin
from topics.catalogue import Catalogue
from topics.changes import Change
from topics.cluster import Cluster
from topics.errors import TopicsDiffer, TopicsError

# Provisioning takes seconds; a pod that starts a second later for it matters to nobody.
_LOOK_EVERY_S = 1.0


def steps_served(settings: Settings, pipelines: Iterable[Plan]) -> tuple[str, ...]:
    """Return the names of all steps that have topics: those of the pipelines in their order, then the retired ones."""
    named = (step.name for plan in pipelines for step in plan.steps)
    return tuple(dict.fromkeys((*named, *settings.retired_steps)))


def plan_topics(settings: Settings, catalogue: Catalogue) -> list[Change]:
    """Return what `apply_topics` would change; raises ConfigurationError if Kafka can't be asked."""
    with _as_configuration():
        return admin.plan(catalogue, _cluster(settings))


def apply_topics(settings: Settings, catalogue: Catalogue) -> list[Change]:
    """Make the broker's topics those of the catalogue; return what was changed.

    Raises TopicMismatch if that can't be done in place, else ConfigurationError if Kafka can't be asked.
    """
    with _as_configuration():
        return admin.apply(catalogue, _cluster(settings))


def verify_topics(settings: Settings, catalogue: Catalogue) -> None:
    """Raise TopicMismatch that lists each difference and what mends it; ConfigurationError if Kafka can't be asked.

    Called before a processor starts: with a topic missing or partitions unequal it would run, and do nothing.
    """
    with _as_configuration():
        admin.verify(catalogue, _cluster(settings))


def wait_for_topics(
    settings: Settings, catalogue: Catalogue, patience: timedelta, report: Callable[[str], None]
) -> None:
    """Return once `verify_topics` is content: somebody else is making the topics, or starting Kafka.

    `report` is called with the reason, again whenever it changes. Raises as `verify_topics` does when patience ends.
    """
    give_up = time.monotonic() + patience.total_seconds()
    reported = ""
    while True:
        try:
            return verify_topics(settings, catalogue)
        except ConfigurationError as error:
            if time.monotonic() >= give_up:
                raise
            if str(error) != reported:
                reported = str(error)
                report(reported)
        time.sleep(_LOOK_EVERY_S)


def _cluster(settings: Settings) -> Cluster:
    return Cluster(kafka_client(settings))


@contextmanager
def _as_configuration() -> Iterator[None]:
    try:
        yield
    except TopicsDiffer as error:
        raise TopicMismatch(str(error)) from error
    except TopicsError as error:
        raise ConfigurationError(str(error)) from error
