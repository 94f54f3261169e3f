"""One meaning a name: no class is defined twice. The words that docs/glossary.md replaced are kept away by tests/tidy."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("processors", "schemas", "topics", "bench")

#: Names that may be defined twice, with the reason.
TWICE: dict[str, str] = {}


def _sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def test_no_class_name_has_two_meanings() -> None:
    """A public class of that name is in one module only."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in _sources(*SHIPPED):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in TWICE} == {}


def test_the_glossary_names_what_there_is() -> None:
    """Every `processors....` of docs/glossary.md can be imported, and no term is there twice."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"^\| ([^|`]+?) \|", text, re.MULTILINE)
    terms = [term for term in terms if term != "term" and not term.startswith("-")]
    assert len(terms) > 50
    assert len(terms) == len(set(terms))
    for target in re.findall(r"`(processors\.[\w.]+)`", text):
        parts = target.split(".")
        # The longest part of it that is a module, then its attributes.
        for cut in range(len(parts), 0, -1):
            if (ROOT / "/".join(parts[:cut])).is_dir() or (ROOT / "/".join(parts[:cut])).with_suffix(".py").exists():
                break
        found: object = import_module(".".join(parts[:cut]))
        for name in parts[cut:]:
            assert hasattr(found, name) or name in getattr(found, "__struct_fields__", ()), target
            found = getattr(found, name)
