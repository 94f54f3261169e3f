"""Rules on Python code that ruff doesn't know: sizes, asserts, imports for the type checker, tests without a docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy.findings import Finding

MODULE_WARNS, MODULE_FAILS = 200, 400
FUNCTION_WARNS, FUNCTION_FAILS = 25, 60
LINE_FAILS = 140
SHIPPED = ("processors/", "schemas/", "topics/")


def check_code(path: str, text: str) -> Iterator[Finding]:
    """Yield what is wrong with one module."""
    lines = text.splitlines()
    yield from _size("module-size", path, len(lines), (MODULE_WARNS, MODULE_FAILS))
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_FAILS:
            yield Finding("line-length", path, f"is {len(line)} characters long, more than {LINE_FAILS}", number)
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _function(path, node)
            case ast.Assert() if path.startswith(SHIPPED):
                says = "python -O leaves it out: raise an error, or cast where only the type checker needs it"
                yield Finding("assert", path, says, node.lineno)
            case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                yield Finding("type-checking", path, "is no way round a cycle: import it, or move it", node.lineno)


def _function(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    where = f"{path}:{node.name}"
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    yield from _size("function-length", where, length, (FUNCTION_WARNS, FUNCTION_FAILS), node.lineno)
    is_test = path.startswith("tests/") and node.name.startswith("test_")
    if is_test and not ast.get_docstring(node):
        yield Finding("test-docstring", where, "says nothing: a docstring states the behaviour", node.lineno)


def _size(rule: str, where: str, size: int, limits: tuple[int, int], line: int = 0) -> Iterator[Finding]:
    warns, fails = limits
    if size > fails:
        yield Finding(rule, where, f"has {size} lines, more than {fails}: split it by idea", line, size)
    elif size > warns:
        yield Finding(rule, where, f"has {size} lines, more than {warns}", line, size, fails=False)
