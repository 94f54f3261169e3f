"""Metrics that were renamed are shown under both names."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, generate_latest

from processors.observability import metrics


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ('scrapesaga_surprises_total{step="renamed"}', 'scrapesaga_unexpected_errors_total{step="renamed"}'),
        (
            'scrapesaga_broken_promises_total{promise="renamed"}',
            'scrapesaga_invariant_violations_total{invariant="renamed"}',
        ),
        ("scrapesaga_deadlines", "scrapesaga_armed_timers"),
    ],
)
def test_the_former_name_shows_the_same_value(former: str, now: str) -> None:
    """A dashboard that asks for the former name, and its label, sees the value of the present one."""
    metrics.unexpected_errors.labels("renamed").inc(2)
    metrics.invariant_violations.labels("renamed").inc(3)
    lines = dict(line.rsplit(" ", 1) for line in generate_latest(REGISTRY).decode().splitlines() if line[0] != "#")
    assert lines[former] == lines[now]
    assert float(lines[now]) >= 0
