"""Takes up changed pipeline files while an engine runs: new sagas follow the new plan, those in flight keep theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from processors.errors import ScrapesagaError
from processors.local.engine import LocalEngine
from processors.local.errors import LocalError
from processors.pipeline.pipeline import read_pipelines
from processors.process.provisioning import apply_topics
from processors.process.roles import COORDINATOR, INTAKE
from processors.saga.plan import Plan


class PipelineWatch:
    """Looks whether the files have changed; call `look` every second or so."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._taken_up = self._seen = fingerprint(engine.pipelines)

    def look(self) -> None:
        """Take up a change that has been the same for two looks: an editor may write a file in parts.

        Whatever comes of it is told by the engine; files that are wrong leave everything as it is.
        """
        now = fingerprint(self._engine.pipelines)
        is_settled, self._seen = now == self._seen, now
        if now == self._taken_up or not is_settled:
            return
        self._taken_up = now
        try:
            said = take_up_pipelines(self._engine)
        except (ScrapesagaError, LocalError) as error:
            said = f"the changed pipelines are not taken up: {error}"
        if said:
            self._engine.tell(said)


def fingerprint(places: Sequence[Path]) -> str:
    """Return what changes when a pipeline file is changed, added or removed."""
    found = hashlib.sha256()
    for place in places:
        for file in sorted((*place.glob("*.yaml"), *place.glob("*.yml"))) if place.is_dir() else [place]:
            found.update(f"{file}\0".encode())
            try:
                found.update(hashlib.sha256(file.read_bytes()).digest())
            except OSError:
                found.update(b"\0")
    return found.hexdigest()


def take_up_pipelines(engine: LocalEngine) -> str:
    """Read the pipelines anew and serve them; return what was done, an empty text if no plan has changed.

    A step that no pipeline names any more is served on, for the sagas in flight. Raises ScrapesagaError, with all as it
    was, for files that are wrong; LocalError if a role doesn't come back.
    """
    settings = engine.settings()
    plans = read_pipelines(engine.pipelines, settings.schemas_dir)
    if plans == engine.plans:
        return ""
    before, named = engine.steps, steps_of(plans.values())
    retired = tuple(step for step in before if step not in named)
    added = tuple(step for step in named if step not in before)
    changed = [name for name, plan in plans.items() if engine.plans.get(name) != plan]
    apply_topics(settings, settings.catalogue((*named, *retired)))
    engine.take_up(plans, (*named, *retired), retired)
    if added:
        # It sends commands only to steps that it knew when it started.
        engine.supervisor.restart(engine.process_of(COORDINATOR))
        engine.wait_until_ready()
    # It publishes the plans, and pins each new request to one.
    intake = engine.process_of(INTAKE)
    if not (added and intake == engine.process_of(COORDINATOR)):
        engine.supervisor.restart(intake)
        engine.wait_until_ready()
    return _said(changed, [name for name in added], [step for step in retired if step in before])


def steps_of(plans: Iterable[Plan]) -> tuple[str, ...]:
    """Return the names of the steps of pipelines, each once, in their order."""
    return tuple(dict.fromkeys(step.name for plan in plans for step in plan.steps))


def _said(changed: Sequence[str], added: Sequence[str], retired: Sequence[str]) -> str:
    parts = [f"taken up: {', '.join(changed) or 'fewer pipelines'}"]
    if added:
        parts.append(f"new steps: {', '.join(added)}")
    if retired:
        parts.append(f"for sagas in flight alone: {', '.join(retired)}")
    return "; ".join(parts)
