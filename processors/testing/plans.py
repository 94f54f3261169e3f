"""A pipeline as tests name it: a plan, a file, or what would be in one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from processors.errors import PipelineError
from processors.pipeline.pipeline import PipelineSpec, plan_pipeline, read_pipeline
from processors.saga.plan import Plan


def plan_of(pipeline: Plan | Mapping[str, Any] | str | Path, schemas: Path | None = None) -> Plan:
    """Return the plan of a pipeline: a plan, the path of a YAML file, or the mapping that a file would hold.

    `schemas` is the folder of record schemas. Raises PipelineError.
    """
    if isinstance(pipeline, Plan):
        return pipeline
    if isinstance(pipeline, str | Path):
        return read_pipeline(Path(pipeline), schemas)
    try:
        spec = msgspec.convert(pipeline, PipelineSpec)
    except msgspec.ValidationError as error:
        raise PipelineError(f"this is no pipeline: {error}") from error
    return plan_pipeline(spec, Path.cwd(), schemas)
