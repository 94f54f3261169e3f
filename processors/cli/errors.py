"""Which error means which exit code, and what is said of it. Imported once something went wrong: it knows every client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from confluent_kafka import KafkaException

from processors.cli.exits import EPILOG, Exit
from processors.errors import ConfigurationError, ScrapesagaError
from processors.kafka.reader import ReadFailed
from processors.local.errors import LocalError
from processors.operations.errors import Unanswered
from topics.cluster import Cluster
from topics.errors import BrokerUnusable, TopicsError

__all__ = ["EPILOG", "OURS", "Exit", "exit_code", "explain"]

# Kafka was asked before, in vain: this only finds out why.
_DIAGNOSED_WITHIN = timedelta(seconds=3)

#: What a command answers with one line on stderr; anything else is a bug and keeps its traceback.
OURS = (ScrapesagaError, TopicsError, LocalError, KafkaException)


def exit_code(error: BaseException) -> Exit:
    """Return the exit code for an error of OURS."""
    if isinstance(error, Unanswered):
        return Exit.UNANSWERED
    unusable = (ConfigurationError, TopicsError, LocalError, KafkaException, ReadFailed)
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
