"""Puts an example package into a folder as an installer would, so that its entry points are found there."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path


def install(package: Path, target: Path) -> Path:
    """Copy the modules that the package's pyproject.toml lists, and write its entry points; return the folder."""
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))
    name, version = project["project"]["name"].replace("-", "_"), project["project"]["version"]
    about = target / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(package / f"{module}.py", target)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["project"]["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return target
