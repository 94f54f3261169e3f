"""What the sidebar shows: added to the README while it is read, as the README itself is a page for people who come by GitHub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

CHAPTERS = {
    "What it is": ("docs/architecture", "docs/guarantees", "docs/protocol", "docs/glossary", "docs/comparison"),
    "Run it": (
        "deploy/helm/scrapesaga/README",
        "docs/operations",
        "docs/roles",
        "docs/cli",
        "docs/settings",
        "docs/image",
        "deploy/cluster/README",
    ),
    "Build on it": (
        "docs/extraction",
        "docs/custom-steps",
        "docs/testing-steps",
        "examples/plugin_step/README",
        "docs/custom-roles",
        "examples/plugin_role/README",
        "docs/topics",
    ),
    "Trust it": ("docs/verification", "docs/audit", "docs/threat-model", "docs/performance", "SECURITY"),
    "Change it": ("CONTRIBUTING", "docs/decisions/index", "CHANGELOG"),
}


#: Pages whose whole folder belongs to them.
FOLDERS = ("docs/decisions/index",)


def _add_navigation(app: Sphinx, page: str, content: list[str]) -> None:
    if page in FOLDERS:
        content[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    if page == app.config.root_doc:
        for caption, pages in CHAPTERS.items():
            lines = "\n".join(f"/{one}" for one in pages)
            content[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def _add_index(app: Sphinx, error: Exception | None) -> None:
    """Let the folder open at its first page, whatever serves it."""
    if error is None and app.builder.name == "html":
        first = Path(app.outdir) / f"{app.config.root_doc}.html"
        shutil.copyfile(first, first.with_name("index.html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Hook both in."""
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _add_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
