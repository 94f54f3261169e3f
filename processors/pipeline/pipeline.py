"""Pipelines as people write them, in YAML that only names and orders, resolved to plans.

```yaml
name: shop-prices
record: product
steps:
  - use: fetch
    timeout: 30s
    retry: {attempts: 5}
  - use: parse
    with: {fields: {title: {css: h1}, price: {css: .price, type: money}}}
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import yaml

from processors.durations import parse_duration
from processors.errors import PipelineError
from processors.saga.plan import Identity, Plan, Resubmit, RetryPolicy, StepPlan, pin
from processors.step import NOTHING_TO_UNDO, Step, StepParams
from schemas.record import RecordSchema, RecordSchemaError

GROUP = "scrapesaga.steps"

# Queue time is bounded only so that a command that nobody serves is noticed; waiting is no failure in itself.
QUEUE_TIMEOUT = "1h"


class RetrySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`retry:` of a step: attempts in all, first and longest backoff, total time from the first attempt."""

    attempts: int | None = None
    base: str | None = None
    cap: str | None = None
    total: str | None = None


class UndoSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`undo:` of a step: how long and how often its compensation, or confirmation, is tried."""

    timeout: str | None = None
    retry: RetrySpec = RetrySpec()


class StepSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `steps:`."""

    use: str
    name: str = ""
    timeout: str | None = None
    queue_timeout: str = QUEUE_TIMEOUT
    retry: RetrySpec = RetrySpec()
    undo: UndoSpec = UndoSpec()
    irreversible: bool = False
    params: dict[str, Any] = msgspec.field(default_factory=dict, name="with")


class PipelineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pipeline file."""

    name: str
    steps: list[StepSpec]
    record: str = "product"
    deadline: str = "24h"
    retention: str = "7d"
    resubmit: Resubmit = Resubmit.REJECT
    identity: Identity | msgspec.UnsetType = msgspec.UNSET


DEFAULT_RETRY = RetryPolicy(attempts=5, base_ms=1_000, cap_ms=60_000, total_ms=3_600_000)
# Longer than an action's: giving up on an undo needs a person.
DEFAULT_UNDO_RETRY = RetryPolicy(attempts=20, base_ms=1_000, cap_ms=300_000, total_ms=86_400_000)
DEFAULT_UNDO_TIMEOUT = timedelta(seconds=30)


@cache
def installed_steps() -> Mapping[str, str]:
    """Return every step of the entry-point group scrapesaga.steps: name -> module:attr."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


@cache
def find_step(use: str) -> type[Step]:
    """Return the step class that `use:` names: an entry point, or module:attr. Raises PipelineError."""
    target = installed_steps().get(use, use)
    module_name, colon, attr = target.partition(":")
    if not colon:
        known = ", ".join(sorted(installed_steps()))
        raise PipelineError(
            f"no step {use!r}: it is neither an installed step ({known}) nor of the form module:attr; "
            f"install the package that has it, or correct `use:`"
        )
    try:
        found = getattr(import_module(module_name), attr)
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"step {use!r} can't be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Step)):
        raise PipelineError(f"step {use!r} is {found!r}, not a subclass of processors.step.Step")
    return found


def parse_params(step_class: type[Step], params: Mapping[str, Any], where: str) -> StepParams:
    """Return a step's typed parameters. Raises PipelineError that names the key."""
    try:
        typed: StepParams = msgspec.convert(params, step_class.Params, strict=False)
    except msgspec.ValidationError as error:
        raise PipelineError(f"{where}: with: {error}") from error
    try:
        step_class.check(typed)
    except PipelineError as error:
        raise PipelineError(f"{where}: {error}") from error
    return typed


def load_params(planned: StepPlan) -> StepParams:
    """Return the typed parameters that a plan pinned."""
    step_class = find_step(planned.use)
    try:
        return msgspec.json.decode(planned.params, type=step_class.Params, strict=False)
    except msgspec.DecodeError as error:
        raise PipelineError(f"the pinned parameters of step {planned.name!r} don't fit: {error}") from error


def _milliseconds(text: str, where: str) -> int:
    try:
        return parse_duration(text) // timedelta(milliseconds=1)
    except ValueError as error:
        raise PipelineError(f"{where}: {error}") from error


def _policy(spec: RetrySpec, default: RetryPolicy, where: str) -> RetryPolicy:
    attempts = default.attempts if spec.attempts is None else spec.attempts
    if attempts < 1:
        raise PipelineError(f"{where}.attempts: at least 1")

    def given(text: str | None, fallback: int, key: str) -> int:
        return fallback if text is None else _milliseconds(text, f"{where}.{key}")

    return RetryPolicy(
        attempts=attempts,
        base_ms=given(spec.base, default.base_ms, "base"),
        cap_ms=given(spec.cap, default.cap_ms, "cap"),
        total_ms=given(spec.total, default.total_ms, "total"),
    )


def _plan_step(spec: StepSpec, last: bool, where: str) -> StepPlan:
    step_class = find_step(spec.use)
    params = parse_params(step_class, spec.params, where)
    undoable = step_class.compensate is not NOTHING_TO_UNDO
    if step_class.compensate is None:
        if not (last or spec.irreversible):
            raise PipelineError(
                f"{where}: step {spec.use!r} declares no compensation, and a step that can fail comes after it; "
                f"give it compensate or NOTHING_TO_UNDO, move it to the end, or set irreversible: true"
            )
        undoable = False
    timeout = spec.timeout or f"{step_class.timeout // timedelta(milliseconds=1)}ms"
    undo_timeout = spec.undo.timeout or f"{DEFAULT_UNDO_TIMEOUT // timedelta(milliseconds=1)}ms"
    return StepPlan(
        name=spec.name or spec.use.rpartition(":")[2].lower(),
        use=spec.use,
        params=msgspec.json.encode(params, order="deterministic").decode(),
        undoable=undoable,
        # What becomes visible late needs that only where something can still fail behind it.
        confirms=step_class.confirm is not None and not last,
        timeout_ms=_milliseconds(timeout, f"{where}.timeout"),
        queue_timeout_ms=_milliseconds(spec.queue_timeout, f"{where}.queue_timeout"),
        retry=_policy(spec.retry, DEFAULT_RETRY, f"{where}.retry"),
        undo_timeout_ms=_milliseconds(undo_timeout, f"{where}.undo.timeout"),
        undo_retry=_policy(spec.undo.retry, DEFAULT_UNDO_RETRY, f"{where}.undo.retry"),
    )


# Names become parts of topic names, consumer groups, Kubernetes objects and metric labels.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise PipelineError(f"{where}: {name!r} must be 1 to 40 of a-z, 0-9, '-' and '_', a letter or digit first")


def plan_pipeline(spec: PipelineSpec, folder: Path, schemas: Path | None = None) -> Plan:
    """Resolve a pipeline: steps found, parameters checked, record schema read.

    `record:` is a path relative to `folder` if it ends in .avsc, else a name: of a schema in the folder `schemas`, or of a
    bundled one.
    """
    where = f"pipeline {spec.name!r}"
    _check_name(spec.name, f"{where}: name")
    if not spec.steps:
        raise PipelineError(f"{where}: steps: at least one")
    steps = tuple(
        _plan_step(step, place == len(spec.steps) - 1, f"{where}, steps[{place}] ({step.use})")
        for place, step in enumerate(spec.steps)
    )
    names = [step.name for step in steps]
    for step in steps:
        _check_name(step.name, f"{where}: step name")
        if names.count(step.name) > 1:
            raise PipelineError(f"{where}: two steps are named {step.name!r}; give one a `name:`")
    schema = _record_schema(spec.record, folder, schemas, f"{where}: record")
    for step in steps:
        try:
            find_step(step.use).check_record(load_params(step), schema)
        except PipelineError as error:
            raise PipelineError(f"{where}: step {step.name!r}: {error}") from error
    return pin(
        Plan(
            pipeline=spec.name,
            record_schema=schema.text,
            steps=steps,
            deadline_ms=_milliseconds(spec.deadline, f"{where}: deadline"),
            retention_ms=_milliseconds(spec.retention, f"{where}: retention"),
            resubmit=spec.resubmit,
            identity=_identity(spec.identity, f"{where}: identity"),
        )
    )


def _identity(identity: Identity | msgspec.UnsetType, where: str) -> Identity | msgspec.UnsetType:
    if identity is msgspec.UNSET or identity == Identity():
        return msgspec.UNSET
    if "" in identity.ignore:
        raise PipelineError(f"{where}.ignore: an empty name; write for example utm_*")
    return identity


def _record_schema(record: str, folder: Path, schemas: Path | None, where: str) -> RecordSchema:
    try:
        if record.endswith(".avsc"):
            return RecordSchema.load(folder / record)
        if schemas is not None:
            # One's own wins: a release that bundles another of the same name must not change a pipeline.
            own = schemas / f"{record}.avsc"
            if own.is_file():
                return RecordSchema.load(own)
        return RecordSchema.load(record)
    except RecordSchemaError as error:
        looked = "SCRAPESAGA_SCHEMAS_DIR is not set" if schemas is None else f"{schemas} has no {record}.avsc"
        more = "" if record.endswith(".avsc") else f"; {looked}"
        raise PipelineError(f"{where}: {error}{more}") from error


def read_pipeline(path: Path, schemas: Path | None = None) -> Plan:
    """Read one pipeline file; `schemas` is the folder of record schemas. Raises PipelineError that names file and key."""
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise PipelineError(f"{path}: can't be read: {error}") from error
    try:
        spec = msgspec.convert(value, PipelineSpec)
    except msgspec.ValidationError as error:
        raise PipelineError(f"{path}: {error}") from error
    try:
        return plan_pipeline(spec, path.parent, schemas)
    except PipelineError as error:
        raise PipelineError(f"{path}: {error}") from error


def read_pipelines(places: Iterable[str | Path], schemas: Path | None = None) -> dict[str, Plan]:
    """Read every pipeline in files and folders (*.yaml, *.yml), by name, as read_pipeline(). Raises PipelineError."""
    plans: dict[str, Plan] = {}
    for place in places:
        path = Path(place)
        if not path.exists():
            raise PipelineError(f"pipelines: {path} doesn't exist; see SCRAPESAGA_PIPELINES")
        files = sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if path.is_dir() else [path]
        for file in files:
            plan = read_pipeline(file, schemas)
            if plan.pipeline in plans:
                raise PipelineError(f"{file}: a pipeline named {plan.pipeline!r} exists in another file")
            plans[plan.pipeline] = plan
    if not plans:
        raise PipelineError(f"no pipeline in {', '.join(map(str, places)) or '(nothing)'}; see SCRAPESAGA_PIPELINES")
    return plans
