"""Judges a run from outside, once the faults are over: what the API billed, what ClickHouse and the topics show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from processors.saga.invariants import LogPosition


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen outside. Jobs by job_id; invoices and pages by idempotency key, `job_id:run:step`.

    `accepted` says how the shop and the API make each job end: a job that they make fail never completes; one that they
    serve may all the same be compensated, if a fault outlasted its retries or somebody cancelled it.
    """

    accepted: Mapping[str, str]
    states: Mapping[str, Mapping[str, Any]]
    warehouse: frozenset[str]
    records: frozenset[str]
    pages: frozenset[str]
    invoices: tuple[Mapping[str, Any], ...]
    paid_steps: tuple[str, ...]
    letters: Mapping[LogPosition, str]
    poison: frozenset[LogPosition]
    cancelled: frozenset[str]
    lags: Mapping[str, int]
    divergences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, and each case in which it was broken."""

    promise: str
    broken: tuple[str, ...]


def judge(seen: Seen) -> tuple[Check, ...]:
    """Return every promise with what broke it."""
    completed = {job for job, state in seen.states.items() if state["phase"] == "COMPLETED"}
    ended = completed | {job for job, state in seen.states.items() if state["phase"] == "COMPENSATED"}
    accepted = set(seen.accepted)

    def phase(job: str) -> str:
        return f"{job} is {seen.states[job]['phase'] if job in seen.states else 'unknown'}"

    def check(promise: str, broken: Iterable[str]) -> Check:
        return Check(promise, tuple(sorted(broken)))

    return (
        check("nothing lost: every accepted job has ended", (phase(job) for job in accepted - ended)),
        check("nothing invented: no job but the accepted ones", seen.states.keys() - accepted),
        check("nothing half-written: users see completed jobs only, all of them, in ClickHouse",
              map(phase, seen.warehouse ^ completed)),
        check("nothing half-written: the compacted downstream topic is the completed jobs",
              map(phase, seen.records ^ completed)),
        check("nothing half-written: pages are archived for completed jobs only, all of them",
              _pages(seen, completed)),
        check("nothing paid twice", _paid_twice(seen)),
        check("nothing paid for a job that was undone, and all of a completed one", _unsettled(seen, completed)),
        check("no job completed that had to fail",
              (job for job in completed & accepted if seen.accepted[job] == "compensated")),
        check("every poison record is set aside", map(str, seen.poison - seen.letters.keys())),
        check("nothing else is set aside", _orphan_records(seen)),
        check("no lag remains", (f"{group}: {lag}" for group, lag in seen.lags.items() if lag)),
        check("every state and command follows from the log", seen.divergences),
    )  # fmt: skip


def conservation(seen: Seen) -> str:
    """Return the balance of jobs in words."""
    phases = Counter(str(seen.states[job]["phase"]).lower() for job in seen.accepted if job in seen.states)
    parts = " + ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
    return f"{len(seen.accepted)} accepted = {parts or '0'}"


def _pages(seen: Seen, completed: set[str]) -> Iterable[str]:
    owners = {key: key.rsplit(":", 2)[0] for key in seen.pages}
    for job in completed:
        key = f"{job}:{seen.states[job]['run']}:fetch"
        if key not in owners:
            yield f"{key} is missing"
    for key, job in owners.items():
        if job not in completed:
            yield f"{key} is left, and {job} is {seen.states[job]['phase'] if job in seen.states else 'unknown'}"


def _paid_twice(seen: Seen) -> Iterable[str]:
    bought = Counter(_job_step(one["key"]) for one in seen.invoices if one["status"] == "charged")
    for (job, step), times in bought.items():
        if times > 1:
            yield f"{step} of {job}: {times} keys are charged"
    for invoice in seen.invoices:
        if invoice["charged_times"] > 1:
            yield f"{invoice['key']}: charged {invoice['charged_times']} times"


def _unsettled(seen: Seen, completed: set[str]) -> Iterable[str]:
    charged = {_job_step(one["key"]) for one in seen.invoices if one["status"] == "charged"}
    owed = {(job, step) for job in completed for step in seen.paid_steps}
    for job, step in charged - owed:
        yield f"{step} of {job} is charged, and the job did not complete"
    for job, step in owed - charged:
        yield f"{step} of {job} is not charged, and the job completed"


def _orphan_records(seen: Seen) -> Iterable[str]:
    for place, reason in seen.letters.items():
        # A cancellation that came too late is refused, visibly: that is how it should be.
        refused = any(
            reason.startswith(f"Cancelled makes no sense while job {job} is ") or reason in _too_late(job)
            for job in seen.cancelled
        )
        if place not in seen.poison and not refused:
            yield f"{place.topic}-{place.partition}@{place.offset}: {reason}"


def _too_late(job: str) -> tuple[str, str]:
    return (
        f"job {job} has done all its steps; it can't be cancelled any more",
        f"job {job} is parked in its compensation; resume it instead",
    )


def _job_step(key: str) -> tuple[str, str]:
    job, _run, step = key.rsplit(":", 2)
    return job, step
