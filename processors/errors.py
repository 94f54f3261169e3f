"""Every error that scrapesaga raises on purpose.

ScrapesagaError
├── ConfigurationError        a setting, pipeline or topic is wrong: the process stops and names it
│   ├── PipelineError         a pipeline can't be planned
│   ├── TopicMismatch         topics on the broker are not as the catalogue declares them
│   └── TopicMissing          a command reads a topic that isn't on the broker
├── StepError                 what a step says about its attempt
│   ├── StepFailed            stop, compensate
│   └── RetryLater            try again, not before `after`
├── BadRecord                 a record that can't be understood: goes to the dead-letter topic
│   └── UnknownPlan           it names a plan that has not been read: read on, then give up on it
├── RecordGone                a claim check names a page that is no longer there
├── DeliveryFailed            a record was not acknowledged by Kafka: the process stops, nothing is committed
│   └── RecordTooLarge        it is larger than its topic takes: nothing was sent
├── ProtocolViolation         a transition that the protocol's table doesn't allow
├── OwnershipLost             another process writes a partition that this one believes to own: this one stops
├── PartitionNotHeld          a partition of the saga table is not here any more, or not yet
├── ReadFailed                a topic could not be read: Kafka didn't answer, or records are gone
├── ReadInterrupted           a read was told to stop: by a rebalance, which makes it void, or by who asked for it
├── BodyTooLarge              a page is larger than the limit once it is decompressed
├── BodyGarbled               a page ends early, or isn't in the coding that it claims
├── UnknownCoding             a page comes in a coding that was not offered
└── OperationError            what an operator asked for came to nothing
    ├── JobNotFound           there is no such job
    ├── InvalidRequest        it can't be meant
    ├── RequestRefused        it can't be done as things stand, or the coordinator said no; nothing was changed
    └── Unanswered            no coordinator answered in time; what was asked stands
"""

from __future__ import annotations

from datetime import timedelta


class ScrapesagaError(Exception):
    """Something that scrapesaga noticed and can explain."""


class ConfigurationError(ScrapesagaError):
    """A setting, pipeline or topic is wrong; the message names it and what to do."""


class PipelineError(ConfigurationError):
    """A pipeline can't be planned; the message names the pipeline, the step and the key."""


class TopicMismatch(ConfigurationError):
    """Topics on the broker are not as the catalogue declares them."""


class StepError(ScrapesagaError):
    """What a step says about its attempt; `effect_unknown` if the outside may have changed all the same."""

    def __init__(self, reason: str, *, effect_unknown: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.effect_unknown = effect_unknown


class StepFailed(StepError):
    """The attempt failed for good: no retry, the saga compensates."""


class RetryLater(StepError):
    """The attempt failed for now: another one follows, not before `after` where it is given."""

    def __init__(self, reason: str, *, after: timedelta | None = None, effect_unknown: bool = False) -> None:
        super().__init__(reason, effect_unknown=effect_unknown)
        self.after = after


class BadRecord(ScrapesagaError):
    """A record that can't be understood; it goes to the dead-letter topic and the partition goes on."""


class RecordGone(ScrapesagaError):
    """A claim check names a record that was deleted, compacted away or replaced."""


class DeliveryFailed(ScrapesagaError):
    """Kafka did not acknowledge a record, so nothing that depends on it may be committed."""


class ProtocolViolation(ScrapesagaError):
    """A transition that the protocol's table doesn't allow: a bug, never ignored."""
