"""A namespace of a real cluster, seen by kubectl and helm as an operator sees it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.helm import CHART, helm

# Images are loaded beforehand; a busy node still takes its time to start a dozen pods.
PATIENCE = "600s"
_WITHIN_S = 900.0


class CommandFailed(Exception):
    """A command that had to succeed; with all that it printed."""


def free_port() -> int:
    """Return a port of this machine that nothing listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def kubectl_path() -> str:
    """Return where kubectl is: KUBECTL, else on PATH."""
    found = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if not found:
        raise CommandFailed("kubectl is not on PATH: install it, or set KUBECTL to where it is")
    return found


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace, and the release in it."""

    name: str
    release: str = "shop"

    def kubectl(self, *arguments: str, given: str | None = None, within_s: float = _WITHIN_S) -> str:
        """Run kubectl in this namespace and return what it prints. Raises CommandFailed."""
        return _run([kubectl_path(), "--namespace", self.name, *arguments], given, within_s)

    def helm(self, *arguments: str, values: Mapping[str, Any] | None = None, within_s: float = _WITHIN_S) -> str:
        """Run helm in this namespace and return what it prints. Raises CommandFailed."""
        more = [] if values is None else ["--values", "-"]
        given = None if values is None else yaml.safe_dump(dict(values))
        return _run([helm(), "--namespace", self.name, *arguments, *more], given, within_s)

    def upgrade(self, values: Mapping[str, Any], *flags: str) -> str:
        """Install or upgrade the release and wait until every pod is ready. Raises CommandFailed."""
        command = ("upgrade", "--install", self.release, str(CHART), "--wait", "--timeout", PATIENCE)
        return self.helm(*command, *flags, values=values)

    def apply(self, manifest: str) -> None:
        """Apply objects to this namespace."""
        self.kubectl("apply", "--filename", "-", given=manifest)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get -o json` says."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def pods(self, selector: str) -> dict[str, dict[str, Any]]:
        """Return the pods that a label selects, by name."""
        return {pod["metadata"]["name"]: pod for pod in self.get("pods", "--selector", selector)["items"]}

    def exec(self, target: str, *command: str) -> str:
        """Run a command in the engine's container of a pod, and return what it prints. Raises CommandFailed."""
        return self.kubectl("exec", target, "--container", "scrapesaga", "--", *command)

    @contextmanager
    def forwarded(self, target: str, port: int, local: int | None = None) -> Iterator[int]:
        """Forward a port of this machine to a pod's, and again when the connection breaks; yield the local port."""
        local = local or free_port()
        command = [kubectl_path(), "--namespace", self.name, "port-forward", target, f"{local}:{port}"]
        ended = threading.Event()
        running: list[subprocess.Popen[str]] = []
        listening = threading.Event()

        def forward() -> None:
            while not ended.is_set():
                child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                running[:] = [child]
                for line in child.stdout or ():
                    if line.startswith("Forwarding from"):
                        listening.set()
                child.wait()
                ended.wait(0.5)

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        try:
            if not listening.wait(60):
                raise CommandFailed(f"port {port} of {target} could not be forwarded within a minute")
            yield local
        finally:
            ended.set()
            for child in running:
                child.send_signal(signal.SIGTERM)
            thread.join(10)


def manifest(path: Path, **given: str) -> str:
    """Return a manifest of deploy/cluster with its $NAMES replaced."""
    text = path.read_text("utf-8")
    for name, value in given.items():
        text = text.replace(f"${name}", value)
    return text


def _run(command: list[str], given: str | None, within_s: float) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=within_s, check=False)
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        raise CommandFailed(f"{' '.join(command[:8])} ... ended with {done.returncode}:\n{said}")
    return done.stdout
