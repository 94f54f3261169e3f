"""Makes the chart's README.md from chart_readme.md and from the comments in values.yaml.

    python deploy/chart_readme.py            writes deploy/helm/scrapesaga/README.md
    python deploy/chart_readme.py --check    ends with 1 if that file is not what this would write

In values.yaml `# @section NAME` begins a table, comment lines after it introduce it, and `# -- TEXT` before a key says
what it does; the comment lines that follow it go on with that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from made import keep

FOLDER = Path(__file__).parent
CHART = FOLDER / "helm" / "scrapesaga"
TARGET = CHART / "README.md"

_KEY = re.compile(r"( *)([A-Za-z][A-Za-z0-9]*):(?: (.*))?$")


@dataclass(frozen=True, slots=True)
class Value:
    """One line of a table: the key's path, its default as JSON, and what it does."""

    path: str
    default: str
    doc: str


@dataclass(slots=True)
class Section:
    """One table."""

    title: str
    intro: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """Return the tables that the text of values.yaml makes. Raises ValueError for a key before the first section."""
    everything = yaml.safe_load(text)
    found: list[Section] = []
    parents: list[tuple[int, str]] = []
    doc: list[str] = []
    documenting = False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# @section "):
            found.append(Section(stripped.removeprefix("# @section ")))
            doc, documenting = [], False
        elif stripped.startswith("# -- "):
            doc, documenting = [stripped.removeprefix("# -- ")], True
        elif stripped.startswith("#"):
            if documenting:
                doc.append(stripped.lstrip("# "))
            elif found and not found[-1].values:
                found[-1].intro.append(stripped.lstrip("# "))
        elif match := _KEY.match(line):
            indent, key = len(match[1]), match[2]
            parents = [one for one in parents if one[0] < indent]
            path = [*(name for _, name in parents), key]
            if match[3] is None:
                parents.append((indent, key))
            if match[3] is not None or doc:
                if not found:
                    raise ValueError(f"{'.'.join(path)} comes before the first `# @section`")
                default = "" if match[3] is None else json.dumps(_at(everything, path))
                found[-1].values.append(Value(".".join(path), default, " ".join(doc)))
            doc, documenting = [], False
    return found


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value


def _tables(text: str) -> Iterator[str]:
    for section in sections(text):
        yield f"### {section.title}"
        yield ""
        if section.intro:
            yield from section.intro
            yield ""
        yield "| key | default | what it does |"
        yield "|---|---|---|"
        for value in section.values:
            default = f"`{value.default}`" if value.default else ""
            yield f"| `{value.path}` | {default} | {value.doc.replace('|', chr(92) + '|')} |"
        yield ""


def readme() -> str:
    """Return the README."""
    tables = "\n".join(_tables((CHART / "values.yaml").read_text("utf-8"))).rstrip()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    template = (FOLDER / "chart_readme.md").read_text("utf-8")
    return template.replace("@values@", tables).replace("@version@", chart["version"])


def main() -> None:
    """Write the file, or check it."""
    keep(TARGET, readme())


if __name__ == "__main__":
    main()
