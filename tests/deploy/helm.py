"""Helm, found on PATH or built once from its Go module, and what it renders from the chart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "scrapesaga"
VERSION = "v3.22.0"

#: Values of the chart's ci/ folder, by file name without ending: each an installation that people have.
CI = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))

Object = dict[str, Any]


# Ten times as fast as the one in Python, where PyYAML was built with libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ChartRefused(Exception):
    """Helm's own words about why it renders nothing."""


class HelmMissing(Exception):
    """There is neither Helm nor a Go to build it with."""


@cache
def helm() -> str:
    """Return the path of Helm 3: that on PATH, else one built from its Go module, once, in the user's cache."""
    found = shutil.which("helm")
    if found is not None:
        return found
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache_folder / "scrapesaga" / "helm" / VERSION
    binary = folder / "helm"
    if not binary.exists():
        if shutil.which("go") is None:
            raise HelmMissing(f"The chart's tests need helm on PATH, or Go on PATH to build helm {VERSION} with.")
        folder.mkdir(parents=True, exist_ok=True)
        # About two minutes on two cores, once.
        command = ["go", "install", f"helm.sh/helm/v3/cmd/helm@{VERSION}"]
        subprocess.run(command, env={**os.environ, "GOBIN": str(folder)}, check=True, timeout=1800)
    return str(binary)


def run(*arguments: str) -> str:
    """Run Helm and return what it prints. Raises ChartRefused."""
    done = subprocess.run([helm(), *arguments], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ChartRefused(done.stderr)
    return done.stdout


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of a release; those of hooks too."""

    objects: tuple[Object, ...]

    def of(self, *kinds: str) -> list[Object]:
        """Return the objects of some kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        """Return the object of a kind whose name ends so."""
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"].endswith(name)]
        return found

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Yield every pod and pod template, with what it belongs to."""
        for one in self.objects:
            where = f"{one['kind']} {one['metadata']['name']}"
            if one["kind"] == "Pod":
                yield where, one
            elif one["kind"] in ("Deployment", "StatefulSet", "Job"):
                yield where, one["spec"]["template"]

    def workers(self) -> Iterator[tuple[str, Object]]:
        """Yield the pod templates of the roles."""
        for where, pod in self.pods():
            if pod["metadata"]["labels"].get("scrapesaga/metrics") == "true":
                yield where, pod


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod, those that run first too."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def main_container(pod: Object) -> Object:
    """Return the engine's container."""
    found: list[Object] = [one for one in pod["spec"]["containers"] if one["name"] == "scrapesaga"]
    (main,) = found
    return main


def environment(container: Object) -> dict[str, str]:
    """Return the variables that have a plain value."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


_RENDERED: dict[tuple[Any, ...], Rendered] = {}


def template(
    values: str | Mapping[str, Any] | None = None,
    *flags: str,
    release: str = "shop",
    namespace: str = "scraping",
    chart: Path = CHART,
) -> Rendered:
    """Render the chart with a file of ci/ by its name, or with values; kept, as rendering takes half a second.

    Values get a `kafka.bootstrapServers` unless they have one. Raises ChartRefused.
    """
    arguments = ["template", release, str(chart), "--namespace", namespace, *flags]
    if isinstance(values, str):
        arguments += ["--values", str(CHART / "ci" / f"{values}.yaml")]
        given = ""
    else:
        kafka = {"bootstrapServers": "kafka:9092", **((values or {}).get("kafka") or {})}
        # JSON is YAML that nobody misreads: PyYAML would leave "y" without quotes.
        given = json.dumps({**(values or {}), "kafka": kafka})
        arguments += ["--values", "-"]
    key = (*arguments, given)
    if key not in _RENDERED:
        done = subprocess.run(
            [helm(), *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise ChartRefused(done.stderr)
        objects = [one for one in yaml.load_all(done.stdout, _LOADER) if one is not None]
        _RENDERED[key] = Rendered(tuple(objects))
    return _RENDERED[key]
