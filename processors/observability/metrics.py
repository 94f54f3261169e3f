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

transitions = Counter("scrapesaga_transitions_total", "Decisions of the coordinator, by their result.", ["note"])
commands = Counter("scrapesaga_commands_total", "Commands that the coordinator sent.", ["step", "action"])
sagas = Gauge(
    "scrapesaga_sagas", "Sagas in the partitions that this process owns; standby copies do not count.", ["phase"]
)
saga_seconds = Histogram(
    "scrapesaga_saga_seconds", "Seconds from the start of a run to its end.", ["phase"], buckets=_SAGA_SECONDS
)
oldest_seconds = Gauge(
    "scrapesaga_oldest_unfinished_seconds", "Age of the oldest run that has not ended; 0 if all have ended.", ["phase"]
)
armed_timers = Gauge("scrapesaga_armed_timers", "Timers that are armed now.")
late_effects = Counter(
    "scrapesaga_late_effects_total", "Effects, or possible effects, that were reported after the abort.", ["step"]
)
retries = Counter("scrapesaga_retries_total", "Attempts that were followed by a retry.", ["step"])
parked = Counter("scrapesaga_parked_total", "Sagas that were parked for an operator.", ["step"])

accepted = Counter("scrapesaga_accepted_total", "Requests that intake accepted as jobs.", ["pipeline"])
dead_letters = Counter(
    "scrapesaga_dead_letters_total", "Records that were copied to the dead-letter topic, by source topic.", ["topic"]
)

build = Gauge(
    "scrapesaga_build_info",
    "Always 1; the labels name the version, Python and roles of this process.",
    ["version", "python", "roles"],
)
lag = Gauge("scrapesaga_consumer_lag", "Records of an owned partition that are not finished.", ["topic", "partition"])
recovery_seconds = Gauge("scrapesaga_recovery_seconds", "Seconds that the last restore of the saga table took.")

step_seconds = Histogram(
    "scrapesaga_step_seconds",
    "Seconds that an attempt of a step took.",
    ["step", "action", "outcome"],
    buckets=_SECONDS,
)
queue_seconds = Histogram(
    "scrapesaga_queue_seconds", "Seconds from the record of a command to its start.", ["step"], buckets=_SECONDS
)
in_flight = Gauge("scrapesaga_steps_in_flight", "Commands that are running now.", ["step"])
unexpected_errors = Counter(
    "scrapesaga_unexpected_errors_total",
    "Exceptions of steps other than StepFailed and RetryLater, and of records that a role can't handle.",
    ["step"],
)

spans = Counter("scrapesaga_spans_total", "Trace spans that were sent or dropped.", ["outcome"])

calls = Counter("scrapesaga_paid_calls_total", "Paid calls, by outcome.", ["step", "outcome"])
spend = Counter("scrapesaga_spend_total", "Money spent, in the currency of the pipeline.", ["pipeline", "step"])
pages_bytes = Counter("scrapesaga_page_bytes_total", "Bytes of pages before compression.", ["step"])
rows = Counter("scrapesaga_rows_total", "Rows written to the warehouse.", ["step", "kind"])
custom = Counter(
    "scrapesaga_custom_total", "Counters of custom steps, by the name that the step chose.", ["step", "name"]
)

invariant_violations = Counter(
    "scrapesaga_invariant_violations_total", "Violations of an invariant that the auditor found.", ["invariant"]
)
audited_events = Counter("scrapesaga_audited_events_total", "Events that the auditor checked.")
audited_jobs = Gauge("scrapesaga_audited_jobs", "Jobs that the auditor saw, by their last state.", ["state"])
audit_lag = Gauge("scrapesaga_audit_lag_records", "Events that the auditor has not read yet.")
audit_unjudged = Gauge(
    "scrapesaga_audit_unjudged_records",
    "Records that the auditor could not check, because they depend on events before its start.",
)
stuck_sagas = Gauge("scrapesaga_stuck_sagas", "Sagas with an overdue timer that no coordinator has fired.")


class _FormerNames(Collector):
    """Exports renamed metrics under their former names too, so that existing alerts and dashboards work."""

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
        """Return nothing: registering must not collect values."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each renamed metric under its former name."""
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
    """Set the build info metric of this process."""
    try:
        released = version("scrapesaga")
    except PackageNotFoundError:
        # The package is not installed: it runs from a checkout.
        released = "unknown"
    build.labels(released, platform.python_version(), ",".join(roles)).set(1)


def show_lag(records: Mapping[tuple[str, int], int]) -> None:
    """Export the lag of the partitions that this process owns: (topic, partition) -> records."""
    lag.clear()
    for (topic, partition), behind in records.items():
        lag.labels(topic, partition).set(behind)
