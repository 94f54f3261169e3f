"""Every metric, named once. Labels are steps, outcomes, pipelines and topics; never a job_id."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# From a cached answer to a slow page; a paid call may take half a minute.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SAGA_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

transitions = Counter("scrapesaga_transitions_total", "Decisions by what they did.", ["note"])
commands = Counter("scrapesaga_commands_total", "Commands issued.", ["step", "action"])
sagas = Gauge(
    "scrapesaga_sagas", "Sagas in the table of this process, those that it only stands by for left out.", ["phase"]
)
saga_seconds = Histogram(
    "scrapesaga_saga_seconds", "From the start of a run to its end.", ["phase"], buckets=_SAGA_SECONDS
)
oldest_seconds = Gauge(
    "scrapesaga_oldest_unfinished_seconds", "Age of the oldest run that has not ended; 0 if there is none.", ["phase"]
)
armed_timers = Gauge("scrapesaga_armed_timers", "Timers armed.")
late_effects = Counter(
    "scrapesaga_late_effects_total", "Effects, or possible ones, reported after the abort.", ["step"]
)
retries = Counter("scrapesaga_retries_total", "Attempts that were followed by another.", ["step"])
parked = Counter("scrapesaga_parked_total", "Sagas that were parked for a person.", ["step"])

accepted = Counter("scrapesaga_accepted_total", "Requests that intake accepted.", ["pipeline"])
dead_letters = Counter("scrapesaga_dead_letters_total", "Records that were set aside.", ["topic"])

build = Gauge("scrapesaga_build_info", "1, labelled with what runs here.", ["version", "python", "roles"])
lag = Gauge(
    "scrapesaga_consumer_lag", "Records not done of a partition that this process owns.", ["topic", "partition"]
)
recovery_seconds = Gauge("scrapesaga_recovery_seconds", "Time that the last restore of the saga table took.")

step_seconds = Histogram(
    "scrapesaga_step_seconds", "Time a step took.", ["step", "action", "outcome"], buckets=_SECONDS
)
queue_seconds = Histogram(
    "scrapesaga_queue_seconds", "From a command's record to its start.", ["step"], buckets=_SECONDS
)
in_flight = Gauge("scrapesaga_steps_in_flight", "Commands being worked on.", ["step"])
unexpected_errors = Counter(
    "scrapesaga_unexpected_errors_total", "Exceptions of steps that say nothing about retry or failure.", ["step"]
)

spans = Counter("scrapesaga_spans_total", "Spans by what became of them: sent or dropped.", ["outcome"])

calls = Counter("scrapesaga_paid_calls_total", "Paid calls by what became of them.", ["step", "outcome"])
spend = Counter("scrapesaga_spend_total", "Money spent, in the pipeline's own currency.", ["pipeline", "step"])
pages_bytes = Counter("scrapesaga_page_bytes_total", "Bytes of pages before compression.", ["step"])
rows = Counter("scrapesaga_rows_total", "Rows written to the warehouse.", ["step", "kind"])
custom = Counter("scrapesaga_custom_total", "What custom steps count by names of their own.", ["step", "name"])

invariant_violations = Counter(
    "scrapesaga_invariant_violations_total", "Violations that the auditor found.", ["invariant"]
)
audited_events = Counter("scrapesaga_audited_events_total", "Events that the auditor judged.")
audited_jobs = Gauge("scrapesaga_audited_jobs", "Jobs that the auditor saw, by what became of them.", ["state"])
audit_lag = Gauge("scrapesaga_audit_lag_records", "Events that the auditor has not read yet.")
audit_unjudged = Gauge(
    "scrapesaga_audit_unjudged_records", "Records that follow from what lies before the audit's beginning."
)
stuck_sagas = Gauge("scrapesaga_stuck_sagas", "Sagas with an overdue timer that no coordinator has fired.")


class _FormerNames(Collector):
    """Shows metrics under the names that they had before, too, so that alerts and dashboards go on."""

    _NAMES: tuple[tuple[Counter | Gauge, dict[str, str], dict[str, str]], ...] = (
        (armed_timers, {"scrapesaga_armed_timers": "scrapesaga_deadlines"}, {}),
        (unexpected_errors, {"scrapesaga_unexpected_errors": "scrapesaga_surprises"}, {}),
        (
            invariant_violations,
            {"scrapesaga_invariant_violations": "scrapesaga_broken_promises"},
            {"invariant": "promise"},
        ),
    )

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering asks for no values."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each of them as it was called."""
        for metric, names, labels in self._NAMES:
            for family in metric.collect():
                former = Metric(names[family.name], f"Former name of {family.name}.", family.type)
                for sample in family.samples:
                    name = sample.name.replace(family.name, former.name)
                    renamed = {labels.get(label, label): value for label, value in sample.labels.items()}
                    former.add_sample(name, renamed, sample.value)
                yield former


REGISTRY.register(_FormerNames())

#: Counters that a step may add to through its host, by name.
STEP_COUNTERS = {
    "paid_calls": calls,
    "spend": spend,
    "page_bytes": pages_bytes,
    "rows": rows,
}
__all__ = ["REGISTRY", "STEP_COUNTERS"]


def show_build(roles: Iterable[str]) -> None:
    """Say which version plays which roles here."""
    try:
        released = version("scrapesaga")
    except PackageNotFoundError:
        # From a checkout that nobody installed.
        released = "unknown"
    build.labels(released, platform.python_version(), ",".join(roles)).set(1)


def show_lag(records: Mapping[tuple[str, int], int]) -> None:
    """Show the lag of the partitions that this process owns, and of no others: (topic, partition) -> records."""
    lag.clear()
    for (topic, partition), behind in records.items():
        lag.labels(topic, partition).set(behind)
