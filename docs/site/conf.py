"""The site of `make docs`: the repository's own pages, at the paths that they have here, so that their links hold in both.

Every warning fails: a link to a page, an anchor or a file that isn't there, a page that the navigation doesn't know.
Nothing comes from another host, neither while it is built nor while it is read.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
sys.path.insert(0, str(_HERE))

_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]

project = "scrapesaga"
copyright = "scrapesaga maintainers, Apache-2.0"
version = release = _PROJECT["version"]
language = "en"

extensions = ["myst_parser", "diagrams", "navigation"]
root_doc = "README"
source_suffix = {".md": "markdown"}
include_patterns = [
  "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**.md",
  "deploy/helm/scrapesaga/README.md", "deploy/cluster/README.md", "examples/*/README.md",
]  # fmt: skip

# Anchors as GitHub makes them of headings, so that a link works in both.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
nitpicky = True
# What the schemas' and the protocol's pages show is not always a language that Pygments can check.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"scrapesaga {version}"
html_short_title = "scrapesaga"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_logo = "static/logo.svg"
html_favicon = "static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6e6e", "color-brand-content": "#0b6e6e"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c0", "color-brand-content": "#5cc8c0"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
