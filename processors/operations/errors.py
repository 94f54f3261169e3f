"""The errors of operations, which a user interface turns into an exit code, an HTTP status or a message.

OperationError
    JobNotFound      no state of such a job: never accepted, or forgotten after its retention
    InvalidRequest   what was asked can't be meant; nothing was sent
    RequestRefused   it can't be done as things stand, or the coordinator said no; nothing was changed
    Unanswered       no coordinator answered in time; what was asked stands

Beside these come ConfigurationError (topics that are missing, a wrong setting), ReadFailed and confluent_kafka's
KafkaException (Kafka can't be reached), and DeliveryFailed (it has not acknowledged a record).
"""

from __future__ import annotations

from processors.errors import ScrapesagaError


class OperationError(ScrapesagaError):
    """An operation failed."""


class JobNotFound(OperationError):
    """There is no such job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"no job {job_id!r}: it was never accepted, or it was forgotten after its retention; see `scrapesaga audit {job_id}`"
        )
        self.job_id = job_id


class InvalidRequest(OperationError):
    """The request is invalid; `field` names the invalid part."""

    def __init__(self, problem: str, field: str = "") -> None:
        super().__init__(problem)
        self.field = field


class RequestRefused(OperationError):
    """The request can't be done. Nothing was changed."""


class Unanswered(OperationError):
    """No coordinator answered in time. The request stays on its topic."""
