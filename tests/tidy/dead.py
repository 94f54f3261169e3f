"""Code that nothing uses, by vulture; what only a library calls is in allowed.toml with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vulture import Vulture

from tests.tidy.findings import ROOT, Finding

# Found by pytest, by Faust or by Hypothesis through their decorators and names.
_IGNORED_NAMES = ["test_*", "pytestmark", "pytest_*"]
_IGNORED_DECORATORS = [
    "@pytest.fixture*", "@*.agent", "@*.command*", "@*.callback*", "@rule*", "@invariant*", "@initialize*", "@given*",
]  # fmt: skip
_SURE_PERCENT = 60


def check_dead(paths: Sequence[str]) -> Iterator[Finding]:
    """Yield what no module uses, each as path:name."""
    vulture = Vulture(ignore_names=_IGNORED_NAMES, ignore_decorators=_IGNORED_DECORATORS)
    vulture.scavenge([str(ROOT / path) for path in paths])
    for item in vulture.get_unused_code(min_confidence=_SURE_PERCENT):
        path = Path(item.filename).relative_to(ROOT)
        says = f"is unused ({item.typ}): remove it, or say in allowed.toml who uses it"
        yield Finding("dead-code", f"{path}:{item.name}", says, item.first_lineno)
