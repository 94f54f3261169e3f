"""Mermaid diagrams as pictures in the page, drawn while the site is built: once for light screens, once for dark ones."""

from __future__ import annotations

import hashlib
from typing import Any

import mermaidx
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.util import logging

_LOG = logging.getLogger(__name__)
_THEMES = {"light": "default", "dark": "dark"}


class Mermaid(Directive):
    """A fence ```mermaid."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Draw the diagram; one that can't be drawn is a warning, and so fails the build."""
        source = "\n".join(self.content)
        figure = nodes.container(classes=["diagram"])
        for screen, theme in _THEMES.items():
            try:
                svg = _drawn(source, theme, screen)
            except Exception as error:
                # Whatever the JavaScript inside says: it has no classes of its own.
                _LOG.warning("a diagram can't be drawn: %s", error, location=self.state_machine.get_source_and_line())
                return []
            figure += nodes.raw("", f'<div class="only-{screen}">{svg}</div>', format="html")
        return [figure]


def _drawn(source: str, theme: str, screen: str) -> str:
    svg = mermaidx.render(source, theme=theme).svg()
    if not isinstance(svg, str) or not svg.startswith("<svg"):
        raise ValueError(f"mermaidx returned {svg!r:.80}, no picture")
    # Styles inside of a picture hold for its id: two pictures of a page need two.
    return svg.replace("my-svg", f"diagram-{screen}-{hashlib.sha256(source.encode()).hexdigest()[:10]}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the directive known."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
