"""A plan: a pipeline with all defaults; a saga is pinned to it by its hash at submission.

Values here are msgspec structs rather than dataclasses: they are made and replaced several times an event, and
that is five times cheaper so.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from processors.errors import PipelineError


class Resubmit(StrEnum):
    """What a submission means if its job has already ended."""

    REJECT = "reject"
    IF_FAILED = "if-failed"
    ALWAYS = "always"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`identity:` of a pipeline: which different URLs are one job.

    `sort_query`: the order of arguments with different names doesn't matter. `ignore`: names of arguments that don't,
    with `*` and `?`.
    """

    sort_query: bool = False
    ignore: tuple[str, ...] = ()


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how long: exponential backoff with full jitter, capped, bounded by attempts and by total time."""

    attempts: int
    base_ms: int
    cap_ms: int
    total_ms: int


class StepPlan(msgspec.Struct, frozen=True):
    """One step of a plan. `params` is JSON text; `undoable`: compensate has something to undo."""

    name: str
    use: str
    params: str
    undoable: bool
    confirms: bool
    timeout_ms: int
    queue_timeout_ms: int
    retry: RetryPolicy
    undo_timeout_ms: int
    undo_retry: RetryPolicy


class Plan(msgspec.Struct, frozen=True):
    """A resolved pipeline. Two plans with the same hash are the same plan."""

    pipeline: str
    record_schema: str
    steps: tuple[StepPlan, ...]
    deadline_ms: int
    retention_ms: int
    resubmit: Resubmit = Resubmit.REJECT
    hash: str = ""
    #: Unset instead of a default: so plans without it keep their hash.
    identity: Identity | msgspec.UnsetType = msgspec.UNSET

    def index(self, step: str) -> int:
        """Return the index of a step by name, or -1."""
        for place, planned in enumerate(self.steps):
            if planned.name == step:
                return place
        return -1


def pin(plan: Plan) -> Plan:
    """Return the plan with its hash filled in: 16 hex digits of the sha256 of its canonical JSON."""
    bare = msgspec.structs.replace(plan, hash="")
    canonical = msgspec.json.encode(bare, order="deterministic")
    return msgspec.structs.replace(plan, hash=hashlib.sha256(canonical).hexdigest()[:16])


def encode_plan(plan: Plan) -> bytes:
    """Return the JSON that scrape.plans keeps."""
    return msgspec.json.encode(plan, order="deterministic")


def decode_plan(data: bytes) -> Plan:
    """Read a plan back; raises PipelineError if it isn't one, or if its hash doesn't match its content."""
    try:
        plan = msgspec.json.decode(data, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PipelineError(f"this is not a plan: {error}") from error
    if pin(plan).hash != plan.hash:
        raise PipelineError(f"plan {plan.hash} of pipeline {plan.pipeline!r} doesn't match its hash")
    return plan
