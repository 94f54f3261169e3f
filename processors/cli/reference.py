"""docs/cli.md, made from the commands themselves: `python -m processors.cli.reference > docs/cli.md`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from processors.cli.app import app
from processors.cli.exits import EPILOG

_INTRODUCTION = """\
# The command line

Made by `python -m processors.cli.reference`; a test compares it with the commands.

Settings come from `SCRAPESAGA_*` variables, see [settings](settings.md).
Where no Kafka is named, commands find the engine that `scrapesaga up` runs in the present folder.
What a command found goes to standard output, everything else to standard error; `--json` prints one JSON object a line.
A mistake is one message on standard error, with the exit code that says whose it is.

"""


def reference() -> str:
    """Return docs/cli.md."""
    root = typer.main.get_command(app)
    parts = [_INTRODUCTION, "## Exit codes\n\n| code | meaning |\n|---|---|\n"]
    for code, meaning in re.findall(r"(\d+) ([^;.]+)", EPILOG):
        parts.append(f"| {code} | {meaning} |\n")
    for path, command in _commands("scrapesaga", root):
        parts.append("\n" + _section(path, command))
    return "".join(parts)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from _commands(f"{path} {name}", one)


def _section(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join((path, *command.collect_usage_pieces(context)))
    lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), "", f"    {usage}", ""]
    rows = [_row(one, context) for one in command.params]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter: Any, context: Any) -> str:
    if parameter.param_type_name == "argument":
        name, told = parameter.metavar or parameter.name.upper(), parameter.help or ""
    else:
        name, told = parameter.get_help_record(context)
    return f"| `{_cell(name)}` | {_cell(told)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("  [", " [")


if __name__ == "__main__":
    print(reference(), end="")
