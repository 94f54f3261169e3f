"""The tree of errors that is drawn in processors/errors.py is the tree of the classes."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import walk_packages

import processors
import schemas
import topics
from processors import errors
from processors.errors import ScrapesagaError

# A branch is four characters wide.
_DRAWN = re.compile(r"^((?:│   |    )*(?:├── |└── )?)(\w+)(?:  .*)?$")


def drawn() -> dict[str, str]:
    """Return what the docstring draws: name -> name of the parent."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = _DRAWN.match(line)
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            parents[found[2]] = above[depth - 1] if depth else ""
    return parents


def defined() -> dict[str, str]:
    """Return the classes of all modules that ship, likewise."""
    for package in (processors, schemas, topics):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    found = {"ScrapesagaError": ""}
    waiting = [ScrapesagaError]
    while waiting:
        parent = waiting.pop()
        # Tests define errors of their own.
        children = [child for child in parent.__subclasses__() if child.__module__.partition(".")[0] == "processors"]
        found |= {child.__name__: parent.__name__ for child in children}
        waiting += children
    return found


def test_the_tree_is_drawn_as_it_is() -> None:
    """Whoever adds an error adds it to the picture, where a reader looks for it."""
    assert drawn() == defined()


def test_each_error_says_what_it_means() -> None:
    """An error class without a docstring would be a name only."""
    waiting = [ScrapesagaError]
    while waiting:
        found = waiting.pop()
        assert found.__doc__, found
        waiting += found.__subclasses__()
