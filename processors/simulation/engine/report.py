"""Runs many histories of the whole engine, and says of a broken promise what it takes to break it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from processors.saga.invariants import Violation
from processors.saga.plan import Plan
from processors.simulation.engine.faults import EngineFault, Planned
from processors.simulation.engine.history import MakeModel, Whole, whole_history
from processors.simulation.rules.report import per_minute

#: Reruns that shrinking may cost; a history has some ten faults at most.
TRIES = 100


@dataclass(frozen=True, slots=True)
class WholeFailure:
    """A history that broke a promise, with the fewest faults that still break it."""

    seed: int
    violation: Violation
    planned: tuple[Planned, ...]
    story: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Say it in one line."""
        return f"seed {self.seed}: {accusation(self.violation)} {circumstances(self.planned)}"


@dataclass(slots=True)
class WholeReport:
    """What a number of histories came to."""

    histories: int = 0
    records: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    faults: Counter[EngineFault] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[WholeFailure] = field(default_factory=list)

    @property
    def per_minute(self) -> int:
        """Histories a minute of one core, whoever else uses the machine."""
        return per_minute(self.histories, self.cpu_seconds)

    @property
    def missing(self) -> list[EngineFault]:
        """Kinds of faults that never happened."""
        return [kind for kind in EngineFault if kind not in self.faults]


def run_whole(
    seeds: Sequence[int],
    plan: Plan,
    models: Mapping[str, MakeModel] | None = None,
    *,
    stop_at: int = 1,
    seconds: float = 0,
) -> WholeReport:
    """Run one history a seed; stop after `stop_at` failures, or after `seconds` if given."""
    report = WholeReport()
    started, cpu_started = time.perf_counter(), time.process_time()
    with silence():
        for seed in seeds:
            whole = whole_history(seed, plan, models)
            report.histories += 1
            report.records += whole.records
            report.faults.update(whole.hits)
            report.ends.update(whole.ends)
            if whole.violations:
                report.failures.append(shrunk_whole(whole, plan, models))
                if len(report.failures) >= stop_at:
                    break
            if seconds and time.perf_counter() - started > seconds:
                break
    report.seconds = time.perf_counter() - started
    report.cpu_seconds = time.process_time() - cpu_started
    return report


@contextmanager
def silence() -> Iterator[None]:
    """Keep quiet what the engine logs of the faults that it is made to meet."""
    kept = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(kept)


def shrunk_whole(whole: Whole, plan: Plan, models: Mapping[str, MakeModel] | None = None) -> WholeFailure:
    """Leave faults out as long as the same promise is broken; tell what is left."""
    rule = whole.violations[0].rule
    best, tries = list(whole.planned), 0
    shorter = True
    while shorter and tries < TRIES:
        shorter = False
        for place in reversed(range(len(best))):
            tries += 1
            fewer = best[:place] + best[place + 1 :]
            if any(one.rule == rule for one in whole_history(whole.seed, plan, models, fewer).violations):
                best, shorter = fewer, True
    traced = whole_history(whole.seed, plan, models, best, traced=True)
    violation = next((one for one in traced.violations if one.rule == rule), whole.violations[0])
    return WholeFailure(whole.seed, violation, tuple(best), traced.story)


def accusation(violation: Violation) -> str:
    """Say which promise is broken, to whom wrote the step where it is a step's."""
    step = violation.detail.split(" ", 1)[0].rstrip(":")
    match violation.rule:
        case "compensated means no effect left":
            return f"your compensation for `{step}` leaks"
        case "completed means every effect once":
            return f"`{step}` leaves {violation.detail.rpartition(' ')[2]} effects of a completed job, not one,"
        case "paid at most once per key":
            return f"`{step}` pays more than once"
        case _:
            return f"{violation}"


def circumstances(planned: Sequence[Planned]) -> str:
    """Say what it takes."""
    kinds = list(dict.fromkeys(one.kind.value for one in planned))
    if not kinds:
        return "though nothing goes wrong"
    return "when " + ", and ".join(kinds)


def summary(plan: Plan, report: WholeReport, steps: Mapping[str, str]) -> str:
    """Return a report as text: how many histories, what was run, how they ended, which faults they met, what failed."""
    ends = ", ".join(f"{count} {name.lower()}" for name, count in report.ends.most_common())
    lines = [
        f"pipeline {plan.pipeline}, the whole engine: {report.histories} histories, {report.records} records in "
        f"{report.seconds:.1f} s ({report.per_minute} a minute of one core)",
        *(f"    step {name}: {what}" for name, what in steps.items()),
        f"jobs ended: {ends}",
        *(f"{count:8} x {fault}" for fault, count in report.faults.most_common()),
        *(f"   never: {fault}" for fault in report.missing),
    ]
    for failure in report.failures:
        lines += ["", failure.sentence, *(f"    {line}" for line in failure.story)]
    return "\n".join(lines)
