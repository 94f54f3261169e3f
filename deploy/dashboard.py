"""Makes the Grafana dashboard of the chart from the table of its panels.

python deploy/dashboard.py            writes deploy/helm/scrapesaga/files/dashboard.json
python deploy/dashboard.py --check    ends with 1 if that file is not what this would write
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made import keep

TARGET = Path(__file__).parent / "helm" / "scrapesaga" / "files" / "dashboard.json"

#: Which series belong to what is chosen at the top of the dashboard.
_CHOSEN = 'namespace="$namespace",pod=~"$release-.+"'
_RATE = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries by legend. `stat` shows the last value, `red_from` where it turns red."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    red_from: float | None = None
    doc: str = ""


def _stat(title: str, expr: str, doc: str, *, unit: str = "short", red_from: float | None = None) -> Panel:
    return Panel(title, {"": expr}, unit, "stat", 4, red_from, doc)


def _sum(metric: str, *by: str, more: str = "") -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} ({metric}{{{more}{_CHOSEN}}})"


def _rate(metric: str, *by: str, more: str = "") -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({metric}{{{more}{_CHOSEN}}}{_RATE}))"


def _quantile(share: float, metric: str, *by: str, more: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', *by, 'le', more=more)})"


#: Rows of the dashboard: what an operator asks first comes first.
ROWS: dict[str, tuple[Panel, ...]] = {
    "Health": (
        _stat("Parked", _sum("scrapesaga_sagas", more='phase="PARKED",'), "Sagas that wait for an operator.", red_from=1),
        _stat("Running", _sum("scrapesaga_sagas", more='phase="RUNNING",'), "Sagas in flight."),
        _stat("Compensating", _sum("scrapesaga_sagas", more='phase="COMPENSATING",'), "Sagas that are being compensated."),
        _stat(
            "Oldest unfinished",
            f'max(scrapesaga_oldest_unfinished_seconds{{phase!="PARKED",{_CHOSEN}}})',
            "Age of the oldest run that has not ended, without parked runs.",
            unit="s",
            red_from=86_400,
        ),
        _stat("Dead letters, 24 h", f"sum(increase(scrapesaga_dead_letters_total{{{_CHOSEN}}}[24h]))",
              "Records that could not be used.", red_from=1),
        _stat("Waiting records", _sum("scrapesaga_consumer_lag"), "Records that no worker has finished yet."),
    ),
    "Sagas": (
        Panel("Accepted and ended", {
            "accepted {{pipeline}}": _rate("scrapesaga_accepted_total", "pipeline"),
            "{{phase}}": _rate("scrapesaga_saga_seconds_count", "phase"),
        }, "ops"),
        Panel("From start to end", {
            "p50 {{phase}}": _quantile(0.5, "scrapesaga_saga_seconds", "phase"),
            "p95 {{phase}}": _quantile(0.95, "scrapesaga_saga_seconds", "phase"),
        }, "s"),
        Panel("Decisions", {"{{note}}": _rate("scrapesaga_transitions_total", "note")}, "ops"),
    ),
    "Steps": (
        Panel("Attempts", {
            "{{step}} {{action}} {{outcome}}": _rate("scrapesaga_step_seconds_count", "step", "action", "outcome"),
        }, "ops"),
        Panel("Time of an attempt, p95", {
            "{{step}} {{action}}": _quantile(0.95, "scrapesaga_step_seconds", "step", "action"),
        }, "s"),
        Panel("Time in the queue, p95", {"{{step}}": _quantile(0.95, "scrapesaga_queue_seconds", "step")}, "s"),
        Panel("In flight", {"{{step}}": _sum("scrapesaga_steps_in_flight", "step")}),
        Panel("Retries and parked", {
            "retries {{step}}": _rate("scrapesaga_retries_total", "step"),
            "parked {{step}}": _rate("scrapesaga_parked_total", "step"),
        }, "ops"),
        Panel("Late effects and unexpected errors", {
            "late {{step}}": _rate("scrapesaga_late_effects_total", "step"),
            "unexpected {{step}}": _rate("scrapesaga_unexpected_errors_total", "step"),
        }, "ops", doc="A late effect came after the time-out of its attempt, and was undone. Unexpected errors are bugs of steps."),
    ),
    "Effects": (
        Panel("Money spent", {"{{pipeline}} {{step}}": _rate("scrapesaga_spend_total", "pipeline", "step") + " * 3600"},
              doc="Per hour, in the currency of each pipeline."),
        Panel("Paid calls", {"{{step}} {{outcome}}": _rate("scrapesaga_paid_calls_total", "step", "outcome")}, "ops"),
        Panel("Rows and pages", {
            "rows {{step}} {{kind}}": _rate("scrapesaga_rows_total", "step", "kind"),
            "page bytes {{step}}": _rate("scrapesaga_page_bytes_total", "step"),
        }),
    ),
    "Audit": (
        Panel("Jobs by state", {"{{state}}": f"max by (state) (scrapesaga_audited_jobs{{{_CHOSEN}}})"}),
        Panel("Violations", {"{{invariant}}": _rate("scrapesaga_invariant_violations_total", "invariant")}, red_from=0.000001),
        Panel("Events checked, and not yet read", {
            "checked per second": _rate("scrapesaga_audited_events_total"),
            "to read": _sum("scrapesaga_audit_lag_records"),
            "stuck sagas": _sum("scrapesaga_stuck_sagas"),
        }),
    ),
    "Engine": (
        Panel("Waiting records by topic", {"{{topic}}": _sum("scrapesaga_consumer_lag", "topic")}),
        Panel("Timers armed", {"{{pod}}": _sum("scrapesaga_armed_timers", "pod")}),
        Panel("Restore of the table", {"{{pod}}": f"max by (pod) (scrapesaga_recovery_seconds{{{_CHOSEN}}})"}, "s"),
        Panel("Commands issued", {"{{step}} {{action}}": _rate("scrapesaga_commands_total", "step", "action")}, "ops"),
        Panel("Memory", {"{{pod}}": f"process_resident_memory_bytes{{{_CHOSEN}}}"}, "bytes"),
        Panel("CPU", {"{{pod}}": _rate("process_cpu_seconds_total", "pod")}),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, members in ROWS.items():
        panels.append({"type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": _place(0, top, 24, 1)})
        top, left, height = top + 1, 0, 8
        for panel in members:
            height = 4 if panel.kind == "stat" else 8
            if left + panel.width > 24:
                top, left = top + height, 0
            panels.append(_panel(panel, _place(left, top, panel.width, height)))
            left += panel.width
        top += height
    for number, one in enumerate(panels, 1):
        one["id"] = number
    return {
        "title": "scrapesaga",
        "uid": "scrapesaga",
        "tags": ["scrapesaga", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_SOURCE, *_VARIABLES]},
        "panels": panels,
    }


_SOURCE = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
_DATA = {"type": "prometheus", "uid": "${source}"}
_VARIABLES = (
    {"name": "namespace", "label": "Namespace", "type": "query", "datasource": _DATA, "refresh": 2,
     "query": "label_values(scrapesaga_build_info, namespace)"},
    {"name": "release", "label": "Release", "type": "query", "datasource": _DATA, "refresh": 2,
     # Pods of the coordinator have the release's name and "-coordinator-0".
     "query": 'label_values(scrapesaga_build_info{namespace="$namespace",roles="coordinator"}, pod)',
     "regex": "/(.+)-coordinator-[0-9]+/"},
)  # fmt: skip


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    defaults = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.doc,
        "datasource": _DATA,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.kind == "stat"
        else {"tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend or "__auto", "datasource": _DATA}
            for number, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def main() -> None:
    """Write the file, or check it."""
    keep(TARGET, json.dumps(dashboard(), indent=1) + "\n")


if __name__ == "__main__":
    main()
