"""Kafka's jars, fetched once with jgo into a per-user cache and checked against the list in `kafka-jars.lock`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from processors.local.errors import JarsUnavailable

KAFKA_VERSION = "4.4.0"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka logs through slf4j and ships without a back end: without it a broker that fails says nothing.
_LOG_BACK_END = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
_PARALLEL_DOWNLOADS = 6


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the reviewed list."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def locked_jars() -> tuple[Jar, ...]:
    """Return the reviewed list: `sha256  group:artifact:version` a line."""
    text = files("processors.local").joinpath("kafka-jars.lock").read_text()
    return tuple(_parse(line) for line in text.splitlines() if line and not line.startswith("#"))


def cache_dir() -> Path:
    """Return the per-user cache folder: SCRAPESAGA_CACHE, else `scrapesaga` in XDG_CACHE_HOME or ~/.cache."""
    override = os.environ.get("SCRAPESAGA_CACHE")
    if override:
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scrapesaga"


def kafka_classpath(cache: Path | None = None) -> tuple[Path, ...]:
    """Return the verified jars of the broker, fetching those that the cache lacks; safe in several processes at once.

    SCRAPESAGA_MAVEN names a mirror to fetch from; the checksums hold for it too.
    Raises JarsUnavailable when offline on the first use, or when a checksum is not the reviewed one.
    """
    jars = locked_jars()
    folder = (cache or cache_dir()) / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with _one_process(folder / ".lock"):
        missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
        if missing:
            _fetch(missing, folder)
        for jar in jars:
            if _sha256(folder / jar.file_name) != jar.sha256:
                raise JarsUnavailable(
                    f"{folder / jar.file_name} is not the reviewed jar (its sha256 differs): it was damaged or "
                    f"replaced. Delete it and start again; it is then fetched anew."
                )
    return tuple(folder / jar.file_name for jar in jars)


def resolve_lock() -> str:
    """Resolve Kafka anew and return the text of `kafka-jars.lock`, for whoever raises KAFKA_VERSION and reviews it."""
    import jgo

    # One after the other: resolved together, the back end's managed versions win and bring an older kafka-clients.
    resolved = {
        (artifact.groupId, artifact.artifactId): artifact
        for endpoint in (_LOG_BACK_END, _KAFKA)
        for artifact in jgo.resolve(endpoint)
    }
    return "".join(
        f"{_sha256(artifact.resolve())}  {group}:{name}:{artifact.version}\n"
        for (group, name), artifact in sorted(resolved.items())
    )


def _parse(line: str) -> Jar:
    sha256, coordinate = line.split()
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, sha256)


def _fetch(missing: list[Jar], folder: Path) -> None:
    """Fetch beside the cache and move in only what is verified: an interrupted download leaves no half a jar."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise JarsUnavailable("The embedded Kafka needs jgo: pip install 'scrapesaga[local]'.") from error
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as incoming:
        mirror = os.environ.get("SCRAPESAGA_MAVEN")
        maven = MavenContext(repo_cache=Path(incoming), remote_repos={"mirror": mirror.rstrip("/")} if mirror else None)

        def fetch(jar: Jar) -> Path:
            return maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()

        try:
            with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
                paths = list(pool.map(fetch, missing))
        except (OSError, RuntimeError) as error:
            raise JarsUnavailable(
                f"Cannot fetch {len(missing)} jars of Kafka {KAFKA_VERSION} ({error.__class__.__name__}: {error}). "
                f"The first use needs to reach a Maven repository, once: connect and start again, name a mirror in "
                f"SCRAPESAGA_MAVEN, or copy {folder} from a machine that has it."
            ) from error
        for jar, path in zip(missing, paths, strict=True):
            if _sha256(path) != jar.sha256:
                raise JarsUnavailable(
                    f"The repository served a {jar.file_name} whose sha256 is not the reviewed one; it was not run. "
                    f"Check the mirror or proxy that serves Maven here."
                )
            shutil.move(path, folder / jar.file_name)


@contextmanager
def _one_process(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
