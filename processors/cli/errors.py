"""How a command ends: its exit codes, and which error means which."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import IntEnum

from confluent_kafka import KafkaException

from processors.errors import ConfigurationError, ScrapesagaError
from processors.local.errors import LocalError
from topics.cluster import Cluster
from topics.errors import BrokerUnusable, TopicsError

# Kafka was asked before, in vain: this only finds out why.
_DIAGNOSED_WITHIN = timedelta(seconds=3)


class Exit(IntEnum):
    """Exit codes, as `scrapesaga --help` lists them."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNUSABLE = 3
    DIVERGED = 4
    UNANSWERED = 5


EPILOG = (
    "Exit codes: 0 success; 1 not found, or an input was refused; 2 wrong usage; "
    "3 Kafka can't be reached, or a setting is wrong; 4 an audit or a verdict found a violation; "
    "5 no coordinator answered in time; 130 interrupted."
)

#: What a command answers with one line on stderr; anything else is a bug and keeps its traceback.
OURS = (ScrapesagaError, TopicsError, LocalError, KafkaException)


class CommandRefused(ScrapesagaError):
    """The request can't be done. Nothing was changed."""


class Unanswered(ScrapesagaError):
    """No coordinator answered in time. The request stays on its topic."""


def exit_code(error: BaseException) -> Exit:
    """Return the exit code for an error of OURS."""
    if isinstance(error, Unanswered):
        return Exit.UNANSWERED
    unusable = (ConfigurationError, TopicsError, LocalError, KafkaException)
    return Exit.UNUSABLE if isinstance(error, unusable) else Exit.REFUSED


def explain(error: BaseException, client: Mapping[str, str] | None) -> str:
    """Return the message of one of OURS, with what to do; `client` are the settings of the Kafka client, if known."""
    if not isinstance(error, KafkaException):
        return str(error)
    if client is not None:
        try:
            # Whoever administers topics can tell a wrong password from a broker that is away.
            Cluster(client, within=_DIAGNOSED_WITHIN).topics(["__consumer_offsets"])
        except BrokerUnusable as found:
            return str(found)
    what = error.args[0].str() if error.args and hasattr(error.args[0], "str") else str(error)
    where = f" at {client['bootstrap.servers']}" if client else ""
    return f"Kafka{where}: {what}. Is it running? See SCRAPESAGA_BOOTSTRAP_SERVERS, or start one with `scrapesaga up`."
