"""The demo's verdict, computed from outside the engine: what the warehouse, the topic and the API's invoices say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

# Reasons that differ only in the page are one reason.
_URL = re.compile(r"https?://[^\s,]*[^\s,:.]")


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen outside. Keys are job_ids; `invoices` has one mapping per paid call.

    `rejected` counts requests that were not accepted, `set_aside` the other dead letters.
    """

    expected: Mapping[str, str]
    phases: Mapping[str, str]
    rejected: int
    set_aside: int
    warehouse: frozenset[str]
    records: frozenset[str]
    invoices: tuple[Mapping[str, object], ...]
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DemoVerdict:
    """Counts, and the problems; without any, the run kept its promises."""

    accepted: int
    completed: int
    compensated: int
    parked: int
    running: int
    in_warehouse: int
    on_topic: int
    half_written: int
    paid_calls: int
    paid_twice: int
    paid_for_nothing: int
    unaccounted: int
    set_aside: int
    unexpected: int
    reasons: Mapping[str, int]

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what went wrong, in words."""
        checks = (
            (self.half_written, "half-written records: the warehouse and the topic differ from the completed jobs"),
            (self.paid_twice, "calls paid twice"),
            (self.paid_for_nothing, "calls of compensated jobs that are still charged"),
            (self.unaccounted, "jobs unaccounted for"),
            (self.running, "jobs still running"),
            (self.parked, "jobs parked"),
            (self.set_aside, "records set aside by the engine itself: see `scrapesaga replay --topic dead-letters`"),
            (self.unexpected, "jobs with an unexpected end: the answers of shop and API do not lead to it"),
        )
        return tuple(f"{count} {what}" for count, what in checks if count)


def judge(seen: Observed) -> DemoVerdict:
    """Compare what is outside with what the jobs' phases claim."""
    phases = Counter(seen.phases.get(job, "UNKNOWN") for job in seen.expected)
    completed = frozenset(job for job in seen.expected if seen.phases.get(job) == "COMPLETED")
    charged = [invoice for invoice in seen.invoices if invoice["status"] == "charged"]
    for_nothing = [one for one in charged if str(one["key"]).rsplit(":", 2)[0] not in completed]
    outcome = {"COMPLETED": "completed", "COMPENSATED": "compensated"}
    unexpected = [
        job
        for job, wanted in seen.expected.items()
        if wanted != "either" and outcome.get(seen.phases.get(job, ""), wanted) != wanted
    ]
    ended = phases["COMPLETED"] + phases["COMPENSATED"] + phases["PARKED"]
    running = phases["RUNNING"] + phases["COMPENSATING"]
    return DemoVerdict(
        accepted=len(seen.expected),
        completed=len(completed),
        compensated=phases["COMPENSATED"],
        parked=phases["PARKED"],
        running=running,
        in_warehouse=len(seen.warehouse),
        on_topic=len(seen.records),
        half_written=len(seen.warehouse ^ completed | seen.records ^ completed),
        paid_calls=len(charged),
        paid_twice=sum(int(str(invoice["charged_times"])) > 1 for invoice in seen.invoices),
        paid_for_nothing=len(for_nothing),
        unaccounted=len(seen.expected) - ended - running - seen.rejected,
        set_aside=seen.set_aside,
        unexpected=len(unexpected),
        reasons=Counter(
            _URL.sub("<url>", seen.reasons.get(job, ""))
            for job in seen.expected
            if seen.phases.get(job) == "COMPENSATED"
        ),
    )
