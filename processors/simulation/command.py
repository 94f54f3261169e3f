"""What `scrapesaga simulate` does: histories of pipelines, by the thousand or one of them told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from processors.pipeline.pipeline import read_pipelines
from processors.saga.plan import Plan
from processors.simulation.engine.history import whole_history
from processors.simulation.engine.report import WholeReport, run_whole, shrunk_whole, silence
from processors.simulation.engine.report import summary as whole_summary
from processors.simulation.engine.step_models import models_of
from processors.simulation.rules.effects import kind_of
from processors.simulation.rules.history import history
from processors.simulation.rules.report import RulesReport, per_minute, run, summary
from processors.simulation.rules.story import story_of
from processors.step_model import StepModel


class Level(StrEnum):
    """What is simulated."""

    RULES = "rules"
    WHOLE = "whole"
    BOTH = "both"


#: Of the whole engine one history for so many of the rules: each costs about as much more.
RULES_TO_WHOLE = 20
#: At least so many: a compensation that leaks is found by some ten.
FEWEST_WHOLE = 200


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """What was asked for; `models` are models by step name, `seconds` bounds all of it (0: nothing does)."""

    places: Sequence[Path]
    seeds: int = 2_000
    whole: int | None = None
    first: int = 0
    level: Level = Level.BOTH
    seconds: float = 0
    models: Mapping[str, str] = field(default_factory=dict)
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class SimulationOutcome:
    """What came of it: broken promises, and kinds of faults that never happened."""

    broken: int
    missing: int


def simulate_all(asked: SimulationOptions, say: Callable[[str], None]) -> SimulationOutcome:
    """Run the histories and say what they came to. Raises PipelineError."""
    plans = read_pipelines(asked.places)
    models = {name: models_of(plan, asked.models) for name, plan in plans.items()}
    rounds = [
        (plan, level)
        for plan in plans.values()
        for level in (Level.RULES, Level.WHOLE)
        if asked.level in (level, Level.BOTH)
    ]
    started = time.perf_counter()
    found: list[RulesReport | WholeReport] = []
    for number, (plan, level) in enumerate(rounds):
        left = max(0.01, asked.seconds - (time.perf_counter() - started))
        share = left / (len(rounds) - number) if asked.seconds else 0
        found.append(_round(asked, plan, level, models[plan.pipeline], share, say))
    missing = sum(len(report.missing) for report in found)
    if not asked.as_json:
        say(_last_line(found, missing))
    return SimulationOutcome(sum(len(report.failures) for report in found), missing)


def trace_one(asked: SimulationOptions, seed: int, say: Callable[[str], None]) -> bool:
    """Tell the history of one seed; True if it breaks a promise. Raises PipelineError."""
    ((name, plan),) = read_pipelines(asked.places).items()
    if asked.level is Level.RULES:
        world, _ = history(seed, plan, traced=True)
        say(story_of(seed, world))
        return bool(world.violations)
    models = models_of(plan, asked.models)
    with silence():
        traced = whole_history(seed, plan, models, traced=True)
        failure = shrunk_whole(traced, plan, models) if traced.violations else None
    if failure is not None:
        say("\n".join((failure.sentence, *failure.story)))
        return True
    say("\n".join((f"seed {seed} of {name}", *traced.story, "no promise was broken")))
    return False


def _round(
    asked: SimulationOptions,
    plan: Plan,
    level: Level,
    models: Mapping[str, type[StepModel]],
    seconds: float,
    say: Callable[[str], None],
) -> RulesReport | WholeReport:
    if level is Level.RULES:
        seeds = range(asked.first, asked.first + asked.seeds)
        report = run(seeds, plan, seconds=seconds)
        _show_rules(asked, plan, report, say)
        return report
    count = asked.whole or max(FEWEST_WHOLE, asked.seeds // RULES_TO_WHOLE)
    entire = run_whole(range(asked.first, asked.first + count), plan, models, seconds=seconds)
    _show_whole(asked, plan, entire, _what_runs(plan, models), say)
    return entire


def _replay(asked: SimulationOptions, level: Level, seed: int) -> str:
    places = " ".join(map(str, asked.places))
    options = "".join(f" --model {step}={target}" for step, target in asked.models.items())
    return f"scrapesaga simulate {places} --level {level} --seed {seed}{options}"


def _show_rules(asked: SimulationOptions, plan: Plan, report: RulesReport, say: Callable[[str], None]) -> None:
    replays = [_replay(asked, Level.RULES, one.seed) for one in report.failures]
    if asked.as_json:
        said = [f"seed {one.seed}: {one.violations[0]}" for one in report.failures]
        stories = [one.story.splitlines() for one in report.failures]
        broken = list(zip(said, stories, replays, strict=True))
        say(_json(Level.RULES, plan, report, report.faults, broken, _what_runs(plan, {})))
        return
    say(summary(plan, report))
    for replay in replays:
        say(f"to see the whole history: {replay}")


def _show_whole(
    asked: SimulationOptions, plan: Plan, report: WholeReport, steps: Mapping[str, str], say: Callable[[str], None]
) -> None:
    replays = [_replay(asked, Level.WHOLE, one.seed) for one in report.failures]
    if asked.as_json:
        said = [one.sentence for one in report.failures]
        stories = [list(one.story) for one in report.failures]
        broken = list(zip(said, stories, replays, strict=True))
        say(_json(Level.WHOLE, plan, report, report.faults, broken, steps))
        return
    say(whole_summary(plan, report, steps))
    for replay in replays:
        say(f"to see it again: {replay}")


def _what_runs(plan: Plan, models: Mapping[str, type[StepModel]]) -> dict[str, str]:
    """Say of each step whether its code runs, or what is modelled instead."""
    return {
        step.name: f"really run, on {models[step.name].__module__}:{models[step.name].__qualname__}"
        if step.name in models
        else f"modelled as {kind_of(step).described}"
        for step in plan.steps
    }


def _json(
    level: Level,
    plan: Plan,
    report: RulesReport | WholeReport,
    faults: Mapping[Any, int],
    broken: list[tuple[str, list[str], str]],
    steps: Mapping[str, str],
) -> str:
    shown = {
        "pipeline": plan.pipeline,
        "level": level,
        "histories": report.histories,
        "seconds": round(report.seconds, 3),
        "cpu_seconds": round(report.cpu_seconds, 3),
        "per_minute": report.per_minute,
        "steps": steps,
        "ends": report.ends,
        "faults": {str(kind): count for kind, count in faults.items()},
        "never": [str(kind) for kind in report.missing],
        "broken": [{"said": said, "story": story, "replay": replay} for said, story, replay in broken],
    }
    return msgspec.json.encode(shown).decode()


def _last_line(found: list[RulesReport | WholeReport], missing: int) -> str:
    parts = []
    for kind, what in ((RulesReport, "the rules"), (WholeReport, "the whole engine")):
        some = [one for one in found if isinstance(one, kind)]
        if some:
            histories, seconds = sum(one.histories for one in some), sum(one.cpu_seconds for one in some)
            parts.append(f"{histories} histories of {what} ({per_minute(histories, seconds)} a minute of one core)")
    broken = sum(len(one.failures) for one in found)
    promise = f"{broken} broken" if broken else "no promise was broken"
    met = f"{missing} kinds of fault never happened" if missing else "every kind of fault happened"
    return f"{', '.join(parts)}: {promise}; {met}"
