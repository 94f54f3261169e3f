"""What can go wrong with topics; every message says what to do next.

TopicsError
├── BadCatalogue     a prefix, step name or number that no broker would take
├── UnknownTopic     a short name that the catalogue doesn't declare
├── BrokerUnusable   Kafka can't be reached, doesn't let us in, or refuses a request
└── TopicsDiffer    topics on the broker are not as the catalogue declares them
"""

from __future__ import annotations


class TopicsError(Exception):
    """Something about topics that the operator has to correct."""


class BadCatalogue(TopicsError):
    """A prefix, step name or number that no broker would take."""


class UnknownTopic(TopicsError):
    """A short name that the catalogue doesn't declare."""


class BrokerUnusable(TopicsError):
    """Kafka can't be reached, doesn't let us in, or refuses a request."""


class TopicsDiffer(TopicsError):
    """Topics on the broker are not as the catalogue declares them; lists each difference with what mends it."""
