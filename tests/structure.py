"""How many rooms the engine has, and how they know each other: `python -m tests.structure --rev REV`.

A room is a folder, or a module that lies flat in `processors/`. An arrow says that one room imports from another, at the
top of a module or inside a function. A circle is a set of rooms that all reach each other by arrows.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("processors", "schemas", "topics")


@dataclass(frozen=True, slots=True)
class Structure:
    """The rooms of one state of the code, and who imports whom: room -> imported room -> the modules that do."""

    rooms: frozenset[str]
    arrows: Mapping[str, Mapping[str, frozenset[str]]]

    @property
    def arrow_count(self) -> int:
        """How many pairs of rooms know each other, each direction for itself."""
        return sum(len(to) for to in self.arrows.values())

    @property
    def flat(self) -> list[str]:
        """The rooms that are a single module in `processors/`."""
        return sorted(room for room in self.rooms if room.endswith(".py"))

    def circles(self) -> list[list[str]]:
        """Return each set of rooms that all reach each other."""
        reach = {room: self._reached(room) for room in self.rooms}
        found = {frozenset(one for one in reach[room] if room in reach[one]) for room in self.rooms}
        return sorted(sorted(circle) for circle in found if circle)

    def _reached(self, start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(self.arrows.get(start, ()))
        while waiting:
            room = waiting.pop()
            if room not in seen:
                seen.add(room)
                waiting += self.arrows.get(room, ())
        return seen


def sources(rev: str | None) -> dict[str, str]:
    """Return the text of every module by its path: of a commit, or of the working tree."""
    if rev is None:
        paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
        return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}
    listed = subprocess.run(
        ["git", "ls-tree", "--name-only", rev], cwd=ROOT, check=True, capture_output=True, text=True
    )
    there = [package for package in PACKAGES if package in listed.stdout.split()]
    archive = subprocess.run(["git", "archive", rev, *there], cwd=ROOT, check=True, capture_output=True).stdout
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            content = files.extractfile(member) if member.name.endswith(".py") else None
            if content is not None:
                found[member.name] = content.read().decode()
    return found


def structure(modules: Mapping[str, str]) -> Structure:
    """Return the rooms and arrows of modules, given by path."""
    names = {_name(path): path for path in modules}
    arrows: dict[str, dict[str, set[str]]] = {}
    rooms = {_room(path) for path, text in modules.items() if not _is_empty(path, text)}
    for path, text in modules.items():
        for imported in _imports(_package(path), ast.parse(text)):
            target = _longest(imported, names)
            if target is not None and _room(names[target]) != _room(path):
                arrows.setdefault(_room(path), {}).setdefault(_room(names[target]), set()).add(path)
    return Structure(
        frozenset(rooms), {a: {b: frozenset(who) for b, who in to.items()} for a, to in sorted(arrows.items())}
    )


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _package(path: str) -> str:
    return path.rpartition("/")[0].replace("/", ".")


def _room(path: str) -> str:
    folder = path.rpartition("/")[0]
    return path if folder == "processors" and not path.endswith("__init__.py") else folder


def _is_empty(path: str, text: str) -> bool:
    """Whether a module makes no room of its own: an `__init__.py` that holds a docstring at most."""
    return path.endswith("__init__.py") and len(ast.parse(text).body) <= 1


def _imports(package: str, tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports, by full name; of `from a import b` it is `a.b`, which may be a module or a name in `a`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _longest(name: str, known: Mapping[str, str]) -> str | None:
    """Return the module that a full name lies in."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def main() -> None:
    """Print the counts, and with --arrows who imports whom."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rev", help="a commit; the working tree unless given")
    parser.add_argument("--arrows", action="store_true", help="list every arrow with the modules that make it")
    options = parser.parse_args()
    found = structure(sources(options.rev))
    print(f"{len(found.rooms)} rooms, {found.arrow_count} arrows between them, {len(found.flat)} flat modules")
    print(f"flat: {', '.join(found.flat)}")
    for circle in found.circles():
        print(f"circle: {', '.join(circle)}")
    if options.arrows:
        for room, to in found.arrows.items():
            for other, who in sorted(to.items()):
                print(f"{room} -> {other}: {', '.join(sorted(who))}")


if __name__ == "__main__":
    main()
