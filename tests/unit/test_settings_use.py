"""Every setting is read by something: one that does nothing would be a promise to whoever sets it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import processors
from processors.settings.settings import SETTINGS

# Where Settings lie in the code: `settings.x`, `self.settings.x`, `self._settings.x`, `context.settings.x`, `s.x`.
_HOLDERS = frozenset({"settings", "_settings"})


def _names(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _reads(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=holder, attr=field) if _names(holder) in _HOLDERS:
                yield field
            # Steps ask their host: host.setting("CLICKHOUSE_URL").
            case ast.Call(func=ast.Attribute(attr="setting"), args=[ast.Constant(value=str(name)), *_]):
                yield name.lower()


@cache
def read_fields() -> frozenset[str]:
    """Return the settings that some module reads; what settings.py itself makes of them counts where that is used."""
    folder = Path(processors.__path__[0])
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        if path.name != "settings.py":
            found |= set(_reads(tree))
            continue
        for method in ast.walk(tree):
            if isinstance(method, ast.FunctionDef) and method.name in ("catalogue", "secret"):
                found |= {
                    node.attr
                    for node in ast.walk(method)
                    if isinstance(node, ast.Attribute) and _names(node.value) == "self"
                }
    return frozenset(found)


@pytest.mark.parametrize("field", [setting.field for setting in SETTINGS])
def test_a_setting_is_read(field: str) -> None:
    """Somebody other than the check of the settings themselves asks for it."""
    assert field in read_fields(), f"nobody reads SCRAPESAGA_{field.upper()}: use it or remove it"


def test_what_nobody_reads_is_found() -> None:
    """The search finds reads, and nothing but reads."""
    assert "no_such_setting" not in read_fields()
    tree = ast.parse("settings.a; self._settings.b; host.setting('C'); other.d; 'settings.e'")
    assert set(_reads(tree)) == {"a", "b", "c"}
