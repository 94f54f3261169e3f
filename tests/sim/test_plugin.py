"""A plugin from outside of our package is really run by `scrapesaga simulate`: right, nothing is found; leaking, it is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin_step"
RIGHT = "        self._path(call).unlink(missing_ok=True)\n"
#: A compensation that relies on what `run` returned: the mistake that everybody makes first.
LEAKING = """        if call.output is not None:
            Path(call.output["path"]).unlink(missing_ok=True)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as an installer leaves it: the plugin's modules and its entry points."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text("utf-8"))
    name = project["project"]["name"].replace("-", "_")
    about = tmp_path / "site" / f"{name}-1.dist-info"
    about.mkdir(parents=True)
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(PLUGIN / f"{module}.py", about.parent)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    points = project["project"]["entry-points"]["scrapesaga.steps"].items()
    lines = ["[scrapesaga.steps]", *(f"{use} = {target}" for use, target in points)]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return about.parent


def simulate(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that has the plugin installed."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from processors.cli import main; main()",
            "simulate",
            str(PLUGIN / "pipeline.yaml"),
            *arguments,
        ],
        cwd=site,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_right_plugin_is_run_and_nothing_is_found(site: Path) -> None:
    """The plugin's own code runs on its simulated folder, and every promise is kept."""
    done = simulate(site, "--level", "whole", "--whole", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step export-json: really run, on export_json_simulated:Folder" in done.stdout
    assert "step notify: modelled as a published record" in done.stdout


def test_a_leaking_compensation_is_found_and_can_be_seen_again(site: Path) -> None:
    """The command says whose compensation leaks, when, and how it came to it; the seed leads there again."""
    module = site / "export_json.py"
    source = module.read_text("utf-8")
    assert RIGHT in source
    module.write_text(source.replace(RIGHT, LEAKING), "utf-8")
    done = simulate(site, "--level", "whole", "--whole", "2000")
    assert done.returncode == 1, done.stdout + done.stderr
    sentence = next(line for line in done.stdout.splitlines() if line.startswith("seed "))
    assert ": your compensation for `export-json` leaks when " in sentence
    assert "compensate export-json" in done.stdout
    replay = next(line for line in done.stdout.splitlines() if line.startswith("to see it again: "))
    again = simulate(site, *replay.split()[replay.split().index("--level") :])
    assert again.returncode == 1
    assert again.stdout.startswith(sentence)


def test_without_a_model_the_kind_is_modelled_and_the_command_says_so(site: Path) -> None:
    """A step that names no outside is not run: what isn't tried is not said to be."""
    module = site / "export_json.py"
    module.write_text(module.read_text("utf-8").replace("export_json_simulated:Folder", ""), "utf-8")
    done = simulate(site, "--level", "whole", "--whole", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step export-json: modelled as an effect by idempotency key" in done.stdout
    given = simulate(site, "--level", "whole", "--whole", "3", "--outside", "export-json=export_json_simulated:Folder")
    assert "step export-json: really run, on export_json_simulated:Folder" in given.stdout
