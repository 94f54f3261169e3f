"""The contract that a step implements: an action, a compensation, and typed parameters.

A step is a class. The engine makes one instance per (step name, parameters) in each worker process and calls it
concurrently for many jobs, so an instance keeps connections and caches, never the state of a job.

    class Shout(Step):
        class Params(StepParams):
            suffix: str = "!"

        async def run(self, call: StepCall) -> StepOutput:
            return StepOutput(record={"title": call.record["title"].upper() + self.params.suffix})

        compensate = NOTHING_TO_UNDO

What a step may rely on: `call.key` is the same over every retry, restart and redelivery of this step in this run, and
`call.seq` only grows within a job. What it must keep: `run` may happen again with the same key, and `compensate` may
come without `run` ever having happened, or more than once; both have to be harmless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol

import msgspec

from schemas.record import RecordSchema

#: What JSON can say. Outputs travel between processes as JSON.
Json = Any


class StepParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of a step, from `with:` in the pipeline; an unknown or mistyped key is refused before anything runs."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a record lies in Kafka: a claim check that is verified when it is redeemed."""

    topic: str
    partition: int
    offset: int
    sha256: str
    size_bytes: int

    def to_json(self) -> dict[str, Json]:
        """Return a form that fits in a step's output."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Address:
        """Read back what `to_json` wrote."""
        return cls(
            topic=value["topic"],
            partition=value["partition"],
            offset=value["offset"],
            sha256=value["sha256"],
            size_bytes=value["size_bytes"],
        )


class StepCall(msgspec.Struct, frozen=True):
    """One command as the step sees it.

    `url` is the canonical URL, which names the job: compare and store it. `address` is what was submitted: request it.
    `record` merges the record fields of all earlier steps; `outputs` holds each earlier step's own data by step name.
    In a compensation `output` is what this step's `run` returned, or None if that was never learned.
    `timeout` says how long this attempt may take; the engine cancels it then. `record_schema` is the Avro schema of the
    pipeline's record, as JSON text. `confirms` says that this step's `confirm` will be called once all steps are done.
    """

    job_id: str
    run: int
    pipeline: str
    step: str
    seq: int
    attempt: int
    key: str
    url: str
    timeout: timedelta
    payload: Mapping[str, Json] = msgspec.field(default_factory=dict)
    record: Mapping[str, Json] = msgspec.field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Json]] = msgspec.field(default_factory=dict)
    output: Mapping[str, Json] | None = None
    record_schema: str = ""
    label: str = ""
    partition: int = 0
    confirms: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What an action leaves behind: `data` for later steps and its own compensation, `record` fields for the record.

    Both must be JSON-able. `note` is a short remark for the audit trail (for example "304 not modified").
    """

    data: Mapping[str, Json] = field(default_factory=dict)
    record: Mapping[str, Json] = field(default_factory=dict)
    note: str = ""


class Log(Protocol):
    """An append-only log with one partition that every worker reads in the same order: the arbiter of shared budgets."""

    async def append(self, key: bytes, value: bytes | None) -> int:
        """Append an entry; return its offset once Kafka has acknowledged it."""
        ...

    async def catch_up(self, to_offset: int | None = None) -> list[tuple[int, bytes, bytes | None]]:
        """Return the (offset, key, value) entries not returned yet, through `to_offset` or through the current end."""
        ...


class Host(Protocol):
    """What the engine offers to a step. The simulator offers the same."""

    async def publish(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> Address:
        """Append a record (None: a tombstone) to one of the engine's topics by its short name, for example "pages".

        Returns once Kafka has acknowledged it on all in-sync replicas. Without `partition`, Kafka's default
        partitioner decides by key. Raises DeliveryFailed, or StepFailed for a record over the topic's size limit.
        """
        ...

    async def read(self, address: Address, key: bytes) -> bytes:
        """Return the value that lies at an address, checked by key, offset and sha256. Raises RecordGone."""
        ...

    def log(self, topic: str) -> Log:
        """Open one of the engine's single-partition topics, for example "spend", as a log read from its beginning."""
        ...

    def secret(self, name: str) -> str:
        """Return a secret by name (environment variable, or file of that name). Raises ConfigurationError."""
        ...

    def setting(self, name: str, default: str = "") -> str:
        """Return the worker's setting SCRAPESAGA_<NAME>, for example setting("CLICKHOUSE_URL")."""
        ...

    def count(self, metric: str, amount: float = 1.0, **labels: str) -> None:
        """Add to one of the counters named in processors/observability/metrics.py."""
        ...


class NothingToUndo:
    """The type of NOTHING_TO_UNDO."""

    def __repr__(self) -> str:
        return "NOTHING_TO_UNDO"


#: Declares that a step has no effect outside that anybody would want undone.
NOTHING_TO_UNDO = NothingToUndo()


class Step(ABC):
    """A step: subclass, give it `Params`, `run`, and `compensate` or NOTHING_TO_UNDO; `confirm` where effects go live late.

    `confirm` runs after every step of the saga has succeeded, and is retried until it works: use it to make visible
    what must not be seen before.
    """

    Params: ClassVar[type[StepParams]] = StepParams
    #: Default time an attempt may take, unless the pipeline says otherwise.
    timeout: ClassVar[timedelta] = timedelta(seconds=30)
    compensate: ClassVar[Any] = None
    confirm: ClassVar[Callable[..., Awaitable[None]] | None] = None
    #: For `scrapesaga simulate`: the model of what this step changes outside, as `module:attr` of a processors.step_model.StepModel.
    #: Without one only the kind of its effect is modelled, and the step's own code doesn't run there.
    simulated: ClassVar[str] = ""

    def __init__(self, name: str, params: Any, host: Host) -> None:
        self.name = name
        self.params = params
        self.host = host

    async def open(self) -> None:
        """Open connections; called once before the first command of this instance."""
        return None

    async def close(self) -> None:
        """Close connections; called once when the worker stops."""
        return None

    @classmethod
    def check(cls, params: Any) -> None:
        """Refuse parameters that can't work (say which, and why) by raising PipelineError; called by `pipeline lint`."""
        return None

    @classmethod
    def check_record(cls, params: Any, schema: RecordSchema) -> None:
        """Refuse parameters that don't fit the pipeline's record by raising PipelineError; called by `pipeline lint`."""
        return None

    @abstractmethod
    async def run(self, call: StepCall) -> StepOutput:
        """Do the step's work. Raise StepFailed (stop, compensate) or RetryLater; anything else is an unexpected error."""
