"""The example plugin is found by its entry point, from outside of our package, and keeps the contract of a step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import install

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin_step"
# What a worker does with a pipeline that names the step, as another process with the plugin installed.
WORKER = """
import asyncio, json, sys
from pathlib import Path

import msgspec

from processors.pipeline.pipeline import find_step, load_params, read_pipeline
from processors.testing import MemoryHost, step_call

folder = sys.argv[2]
planned = next(step for step in read_pipeline(Path(sys.argv[1])).steps if step.name == "export-json")
step_class = find_step(planned.use)
params = msgspec.structs.replace(load_params(planned), folder=folder)
call = step_call("export-json", job_id="a/b", record={"title": "Lampe"})
seen = []

async def work():
    step = step_class(planned.name, params, MemoryHost())
    await step.open()
    await step.compensate(call)
    for action in (step.run, step.run, step.compensate, step.compensate):
        await action(call)
        seen.append({path.name: json.loads(path.read_text()) for path in Path(folder).iterdir()})
    await step.close()

asyncio.run(work())
print(json.dumps({"module": step_class.__module__, "undoable": planned.undoable, "seen": seen}))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as an installer leaves it."""
    return install(PLUGIN, tmp_path / "site")


def at_work(pipeline: Path, folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """The worker's script, run in a process that has `path` to import from."""
    folder.mkdir()
    everything = os.pathsep.join(map(str, (*path, PLUGIN.parents[1])))
    return subprocess.run(
        [sys.executable, "-c", WORKER, str(pipeline), str(folder)],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": everything},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_plugin_is_found_and_leaves_nothing_behind(installed: Path, tmp_path: Path) -> None:
    """Compensated before it ran, run twice, compensated twice: one file, then none."""
    done = at_work(PLUGIN / "pipeline.yaml", tmp_path / "out", installed)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    file = {"a%2Fb.json": {"title": "Lampe"}}
    assert told == {"module": "export_json", "undoable": True, "seen": [file, file, {}, {}]}


def test_without_the_package_the_pipeline_says_what_to_install(tmp_path: Path) -> None:
    """The error names the step and lists those that are installed."""
    done = at_work(PLUGIN / "pipeline.yaml", tmp_path / "out")
    assert done.returncode != 0
    assert "no step 'export-json'" in done.stderr
    assert "install the package that has it" in done.stderr


def test_a_wrong_parameter_is_refused_when_the_pipeline_is_read(installed: Path, tmp_path: Path) -> None:
    """The plugin's Params are as strict as those of the built-in steps."""
    pipeline = tmp_path / "wrong.yaml"
    pipeline.write_text((PLUGIN / "pipeline.yaml").read_text("utf-8").replace("folder: /tmp", "directory: /tmp"))
    done = at_work(pipeline, tmp_path / "out", installed)
    assert done.returncode != 0
    assert "export-json" in done.stderr
    assert "directory" in done.stderr


def own_tests(installed: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests that the plugin brings, as its author does: in its folder, by its own settings."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_export_json.py"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(installed), str(PLUGIN.parents[1]))),
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_plugins_own_tests_pass_and_find_a_leak(installed: Path, tmp_path: Path) -> None:
    """They are the example of docs/testing-steps.md; a compensation that relies on what run returned fails them."""
    folder = shutil.copytree(
        PLUGIN, tmp_path / "plugin", ignore=shutil.ignore_patterns("export_json*.py", "__pycache__")
    )
    done = own_tests(installed, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    code = installed / "export_json.py"
    right = "        self._path(call).unlink(missing_ok=True)\n"
    assert right in code.read_text("utf-8")
    leaking = "        if call.output is not None:\n    " + right
    code.write_text(code.read_text("utf-8").replace(right, leaking))
    done = own_tests(installed, folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "export-json crashes after its effect" in done.stdout
    assert "what stands: 1 effects of export-json" in done.stdout
