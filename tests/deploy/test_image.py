"""The image, built and started as a restricted pod starts it, where a container engine and the base image are there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.deploy.engines import Engine, NoEngine, engine

BASE = "python:3.12-slim"
TAG = "scrapesaga:under-test"
# The local runtime is for laptops and brings a JVM and a ClickHouse: the image has neither.
IMPORT_ALL = """
import importlib, pkgutil, processors, schemas, topics
for package in (processors, schemas, topics):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith("processors.local") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""

# The build fetches some 90 wheels.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def built() -> Iterator[Engine]:
    """An engine that has built the image; without one the tests are skipped, or failed where one is demanded."""
    try:
        found = engine(BASE)
    except NoEngine as missing:
        if os.environ.get("SCRAPESAGA_TEST_IMAGE") == "required":
            pytest.fail(f"SCRAPESAGA_TEST_IMAGE=required, but {missing}")
        pytest.skip(f"the image is not built here: {missing}")
    found.build(TAG, build_args={"VERSION": "9.8.7"})
    yield found


def test_every_command_runs_as_nobody_on_a_read_only_file_system(built: Engine) -> None:
    """Arguments go to `scrapesaga`; it needs no capability, no network and nothing to write to."""
    helped = built.run(TAG, "--help")
    assert helped.returncode == 0, helped.stderr
    assert "worker" in helped.stdout


def test_a_wrong_setting_stops_a_worker_and_names_the_key(built: Engine) -> None:
    """A worker with a wrong setting ends with 3 and one line that names the variable, not with a traceback."""
    stopped = built.run(TAG, "worker", "coordinator", env={"SCRAPESAGA_PARTITIONS": "many"})
    assert stopped.returncode == 3
    assert "SCRAPESAGA_PARTITIONS" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_worker_that_cannot_reach_kafka_says_so(built: Engine) -> None:
    """A pod whose Kafka is away ends with 3 and says whom it asked, once everything that it imports was there."""
    missed = built.run(TAG, "topics", "verify", env={"SCRAPESAGA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    assert missed.returncode == 3, missed.stderr
    assert "127.0.0.1:9" in missed.stderr
    assert "Traceback" not in missed.stderr


def test_the_runtime_lock_is_enough(built: Engine) -> None:
    """Every module that a role or a command may load finds what it imports."""
    imported = built.run(TAG, "-c", IMPORT_ALL, entrypoint="python")
    assert imported.returncode == 0, imported.stderr


def test_the_user_is_a_fixed_number_and_the_working_directory_empty(built: Engine) -> None:
    """Kubernetes checks runAsNonRoot by number; what lay in the working directory could shadow the engine's packages."""
    tools = "for tool in gcc cc c++ make ld; do command -v $tool; done; true"
    script = f"id -u; id -g; ls -A | wc -l; touch /opt/scrapesaga/x 2>&1 | head -1; {tools}"
    told = built.run(TAG, "-c", script, entrypoint="sh")
    uid, gid, entries, refused, *compilers = told.stdout.split("\n")
    assert (uid, gid, entries) == ("10001", "10001", "0")
    assert "touch" in refused
    assert compilers == [""]


def test_the_image_says_what_it_is(built: Engine) -> None:
    """Labels carry the version that was built; nothing in the image checks health behind the orchestrator's back."""
    assert built.config(TAG, '{{index .Config.Labels "org.opencontainers.image.version"}}') == "9.8.7"
    assert built.config(TAG, "{{.Config.User}}") == "10001:10001"
    assert built.config(TAG, "{{json .Config.Entrypoint}}") == '["scrapesaga"]'
    assert "Healthcheck" not in built.config(TAG, "{{json .Config}}")
