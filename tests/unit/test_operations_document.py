"""docs/operations.md tells of the alerts, metrics, settings and commands that there are, and of no others."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import REGISTRY

from processors.cli.app import app
from processors.observability import metrics
from processors.settings.settings import SETTINGS

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
ALERTS = CHECKOUT / "deploy" / "helm" / "scrapesaga" / "files" / "alerts.yaml"


def test_every_alert_is_explained() -> None:
    """Whoever is woken by an alert finds its name, what it means and what to do; none is told of that can't come."""
    declared = set(re.findall(r"^- alert: (\w+)$", ALERTS.read_text("utf-8"), re.MULTILINE))
    explained = set(re.findall(r"^\| `(Scrapesaga\w+)` \|", TEXT, re.MULTILINE))
    assert declared and explained == declared


def test_every_metric_is_explained() -> None:
    """The table of metrics names each one, with its labels' names."""
    declared = {
        sample: names
        for collector, samples in REGISTRY._collector_to_names.items()
        if (name := getattr(collector, "_name", "")).startswith("scrapesaga_")
        for names in [tuple(getattr(collector, "_labelnames", ()))]
        for sample in ([f"{name}_total"] if f"{name}_total" in samples else [name])
    }
    told = {
        name: tuple(filter(None, labels.strip("{}").split(",")))
        for name, labels in re.findall(r"`(scrapesaga_\w+)(\{[\w,]+\})?`", TEXT)
    }
    assert metrics.sagas and told == declared


def commands() -> Iterator[str]:
    """Every command in the text: in code spans and in blocks of shell."""
    yield from (found for found in re.findall(r"`(scrapesaga [^`]+)`", TEXT))
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        yield from re.findall(r"\bscrapesaga [^|#\n>]+", block)


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_exists(line: str) -> None:
    """Its name and its options are known to the command line."""
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", ()):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or command.name == "audit" or not words, f"{line}: no such command"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word in known, f"{line}: no option {word}"


def test_every_setting_exists() -> None:
    """A variable that is told of is read."""
    known = {variable for setting in SETTINGS for variable in setting.variables}
    assert set(re.findall(r"`(SCRAPESAGA_[A-Z_]+[A-Z])`", TEXT)) <= known
