"""The chart's processes and its `helm test`, as rendered, against a real Kafka: without a cluster around them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import providers
from tests.deploy.helm import CHART, Object, Rendered, main_container, template
from tests.deploy.test_chart_engine import engine_containers, files_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]

# The test's pod under its Service's name, which means nothing here.
TARGET = "shop-scrapesaga-test.scraping.svc"
BIN = Path(sys.executable).parent
PATIENCE_S = 120


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Release:
    """A rendered release: its pods' environment and files, below a folder."""

    def __init__(self, rendered: Rendered, folder: Path, servers: str) -> None:
        self._rendered = rendered
        self._folder = folder
        self._servers = servers
        self.pods = {where.rpartition("scrapesaga-")[2]: pod for where, pod in rendered.pods()}

    def environment(self, pod: Object, **more: str) -> dict[str, str]:
        """Return what a container of the pod has, its paths moved below the folder, and its files put there."""
        files_of(pod, self._rendered, self._folder)
        for path in (self._folder / "etc" / "scrapesaga" / "pipelines").glob("*.yaml"):
            path.write_text(path.read_text().replace(TARGET, "localhost"))
        given = {one["name"]: one["value"] for one in main_container(pod)["env"]}
        moved = {
            name: value.replace("/etc/", f"{self._folder}/etc/").replace("/var/", f"{self._folder}/var/")
            for name, value in given.items()
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCRAPESAGA_")}
        programs = f"{BIN}:{kept.get('PATH', '')}"
        return {**kept, **moved, "PATH": programs, "SCRAPESAGA_BOOTSTRAP_SERVERS": self._servers, **more}

    def run(self, pod: Object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a pod that ends, as its container says."""
        container = main_container(pod)
        command = container.get("command", ["scrapesaga"])
        arguments = [str(one).replace(TARGET, "localhost") for one in container["args"]]
        arguments = [one.replace("/etc/", f"{self._folder}/etc/") for one in arguments]
        if command == ["python3"]:
            command = [sys.executable]
            arguments[2:4] = ["localhost", str(free_port())]
        return subprocess.run(
            [*command, *arguments],
            env=self.environment(pod, **more),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @contextmanager
    def workers(self, log: Path) -> Iterator[None]:
        """Play the roles of all Deployments and the StatefulSet, in one process, until the block ends."""
        roles = [
            container["args"][1]
            for pod in self.pods.values()
            for container in engine_containers(pod)
            if container["args"][0] == "worker" and container["args"][1] != "auditor"
        ]
        port = free_port()
        env = self.environment(self.pods["coordinator"], SCRAPESAGA_HTTP_PORT=str(port))
        with (
            log.open("w") as out,
            subprocess.Popen(["scrapesaga", "worker", *roles], env=env, stdout=out, stderr=out) as process,
        ):
            try:
                wait_until_ready(port, process, log)
                yield
            finally:
                process.terminate()
                process.wait(60)


def wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < give_up, log.read_text()[-3000:]
            time.sleep(0.2)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A small release and a Kafka of its own."""
    values = {"topics": {"replicationFactor": 1, "partitions": 2, "prefix": "release"}}
    with providers.kafka(tmp_path_factory.mktemp("kafka")) as servers:
        yield Release(template(values), tmp_path_factory.mktemp("release"), servers)


def test_release_runs_its_own_tests(release: Release, tmp_path: Path) -> None:
    """The Job makes the topics, pods wait for them, and both pods of `helm test` pass: one saga completes, one is undone.

    Without workers the same pods fail, and say what to look at.
    """
    wait = release.pods["intake"]["spec"]["initContainers"][-1]["args"]
    env = release.environment(release.pods["intake"])
    early = subprocess.run(
        ["scrapesaga", *wait[:3], "1ms"], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert early.returncode == 3 and "release.sagas is missing" in early.stderr
    applied = release.run(release.pods["topics"])
    assert applied.returncode == 0, applied.stderr
    waited = subprocess.run(["scrapesaga", *wait], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert waited.returncode == 0, waited.stderr

    alone = release.run(release.pods["test-completes"], RELEASE_TEST_SECONDS="1")
    assert alone.returncode == 1 and "FAILED: no state of release-test-completes" in alone.stderr, alone.stderr

    with release.workers(tmp_path / "workers.log"):
        completes = release.run(release.pods["test-completes"])
        assert completes.returncode == 0, completes.stderr + completes.stdout
        assert "is COMPLETED" in completes.stdout and "its archived page is there" in completes.stdout
        compensates = release.run(release.pods["test-compensates"])
        assert compensates.returncode == 0, compensates.stderr + compensates.stdout
        assert "is COMPENSATED" in compensates.stdout and "its archived page is deleted" in compensates.stdout
    listed = subprocess.run(
        ["scrapesaga", "replay", "--topic", "records", "--from", "0"],
        env=release.environment(release.pods["intake"]), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert listed.stderr.startswith("0 records of release.records"), listed.stderr


def test_another_partition_count_is_refused_by_the_job(release: Release, tmp_path: Path) -> None:
    """With another number of partitions the Job fails, changes nothing, and says what to do."""
    assert release.run(release.pods["topics"]).returncode == 0
    refused = release.run(release.pods["topics"], SCRAPESAGA_PARTITIONS="4")
    assert refused.returncode == 3
    assert "release.sagas has 2 partitions, not 4" in refused.stderr and "keys would move" in refused.stderr


def test_a_pipeline_that_cannot_work_stops_the_job(release: Release, tmp_path: Path) -> None:
    """The Job reads all pipelines first: a mistake in one is told before anything is installed."""
    values = {
        "topics": {"replicationFactor": 1},
        "pipelines": {"p": {"steps": [{"use": "fetch", "with": {"max_byte": 1}}]}},
    }
    broken = Release(template(values), tmp_path, release._servers)
    refused = broken.run(broken.pods["topics"])
    assert refused.returncode == 3 and "max_byte" in refused.stderr, refused.stderr


def test_the_tests_script_needs_nothing_but_python() -> None:
    """It runs in the engine's image as it is: the standard library, and the command line."""
    text = (CHART / "files" / "release_test.py").read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported <= set(sys.stdlib_module_names)
