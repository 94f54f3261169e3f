"""The container engines that the image's tests can use: what builds it, what starts it, and what is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The wheels of a cold cache over a slow link, on two busy cores.
_BUILD_WITHIN_S = 1500
_START_WITHIN_S = 120
# A host that may not raise limits can't give a container the engine's default of a million open files.
_LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
# What the chart asks of a pod: nothing writable, no capability, no way to get one.
_RESTRICTED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "none")


class NoEngine(Exception):
    """No image can be built here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One of docker, podman and buildah, that answered."""

    name: str

    def build(self, tag: str, *, target: str = "image", build_args: Mapping[str, str] | None = None) -> None:
        """Build a stage of the Dockerfile; raises CalledProcessError with what the engine said."""
        # chroot needs neither rights over limits nor a network of the container's own.
        isolation = () if self.name == "docker" else ("--isolation", "chroot")
        given = [word for item in (build_args or {}).items() for word in ("--build-arg", "=".join(item))]
        self._call(
            "build", *isolation, *given, "--target", target, "--tag", tag, str(ROOT), within_s=_BUILD_WITHIN_S
        ).check_returncode()

    def run(
        self, tag: str, *arguments: str, env: Mapping[str, str] | None = None, entrypoint: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Start the image as a restricted pod would, with these arguments, and wait for its end."""
        given = [word for item in (env or {}).items() for word in ("--env", "=".join(item))]
        if entrypoint is not None:
            given += ["--entrypoint", entrypoint]
        if self.name == "podman":
            # Else podman mounts a writable /tmp over the read-only file system.
            given.append("--read-only-tmpfs=false")
        return self._call("run", "--rm", *_LIMITS, *_RESTRICTED, *given, tag, *arguments, within_s=_START_WITHIN_S)

    def config(self, tag: str, template: str) -> str:
        """Return a part of the image's configuration, by a Go template over it."""
        done = self._call("image", "inspect", "--format", template, tag, within_s=_START_WITHIN_S)
        done.check_returncode()
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Return whether the image is here, or can be fetched."""
        if self._call("image", "inspect", image, within_s=60).returncode == 0:
            return True
        return self._call("pull", "--quiet", image, within_s=300).returncode == 0

    def _call(self, *arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.name, *arguments], capture_output=True, text=True, timeout=within_s, check=False)


def engine(base_image: str) -> Engine:
    """Return the first engine that answers and has the base image; raises NoEngine."""
    silent = []
    for name in ("docker", "podman"):
        found = shutil.which(name)
        if found is None:
            silent.append(f"{name} is not installed")
        elif subprocess.run([name, "info"], capture_output=True, timeout=60, check=False).returncode != 0:
            silent.append(f"{name} does not answer")
        elif not Engine(name).has(base_image):
            silent.append(f"{name} neither has nor can fetch {base_image}")
        else:
            return Engine(name)
    raise NoEngine("; ".join(silent))
